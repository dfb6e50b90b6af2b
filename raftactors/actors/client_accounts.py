"""What each connection of a client has under way and unread, and whether it may have more."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from raftactors.config import Limits
from raftactors.transport.client_endpoint import ClientEndpoint

LOOK_BYTES = 64 * 1024
"""Up to so much may be unread by this count alone before the endpoint is asked how much really is."""

SWEEP_CONNECTIONS = 256
"""Connections that are looked at in one tick, whatever they do."""

STALL_TICKS_MIN = 4
"""A held connection has at least so many ticks to read something."""


class Pending(NamedTuple):
    """A frame that waits for its reply; `outlives_leader` says that it is this node itself that was asked."""

    account: Account
    request: int
    taken_at_tick: int
    frame_bytes: int
    outlives_leader: bool = False


class Account:
    """One connection. `unread_bytes` is what was unread at the last look and what was handed over since."""

    __slots__ = (
        "acked_bytes",
        "handed_bytes",
        "moved_at_tick",
        "pending_bytes",
        "pending_ids",
        "routing_id",
        "unread_bytes",
    )

    def __init__(self, routing_id: bytes) -> None:
        self.routing_id = routing_id
        self.pending_ids: set[int] = set()
        self.pending_bytes = 0
        self.handed_bytes = 0
        self.unread_bytes = 0
        self.acked_bytes = 0
        self.moved_at_tick = 0


class Changes(NamedTuple):
    """Routing ids of connections that are now held, released, or gone; each in one of the sets."""

    held: set[bytes]
    released: set[bytes]
    gone: set[bytes]


class ClientAccounts:
    """The frames under way and the unread bytes of all connections, with a limit for each and one for all.

    Of the frames under way a connection may have as many as are left free, and its own limit at most. So when nearly
    all are taken, what becomes free goes to those that have few or none.

    A connection with too much unread is held: it gets no more answers to queries until it has read half of it. If it
    reads nothing at all for `client_stall_ms` it is cut. When three quarters of a common limit are used up, that takes
    `STALL_TICKS_MIN` ticks only, and an equal share of that is too much unread. Used by the gateway alone, on its
    thread.
    """

    def __init__(self, limits: Limits, endpoint: ClientEndpoint, *, tick_ms: int) -> None:
        self.pending: dict[int, Pending] = {}
        self._news = Changes(set(), set(), set())
        self._limits = limits
        self._endpoint = endpoint
        self._stall_ticks = max(STALL_TICKS_MIN, limits.client_stall_ms // tick_ms)
        # Two replies may be under way between the decision to hold and its effect, and one is to be read.
        self._client_bytes_max = max(limits.client_unread_bytes_max, 3 * limits.client_frame_bytes_max)
        self._hold_bytes = self._client_bytes_max - 2 * limits.client_frame_bytes_max
        self._bytes_max = max(limits.unread_bytes_max, self._client_bytes_max)
        self._accounts: OrderedDict[bytes, Account] = OrderedDict()
        self._held: dict[bytes, Account] = {}
        self._pending_bytes = 0
        self._unread_bytes = 0
        self._ticks = 0

    # --- frames under way ---

    def of(self, routing_id: bytes) -> Account:
        """The account of this connection; not to be kept, because idle ones are dropped at a tick."""
        account = self._accounts.get(routing_id)
        if account is None:
            account = self._accounts[routing_id] = Account(routing_id)
        return account

    def admits(self, account: Account) -> bool:
        """Whether one more frame of this connection may be taken; cheap, so that a refusal is."""
        limits, frames, frames_bytes = self._limits, len(account.pending_ids), account.pending_bytes
        return (
            frames < limits.client_pending_frames_max
            and frames < limits.pending_frames_max - len(self.pending)
            and frames_bytes < limits.client_pending_bytes_max
            and frames_bytes < limits.pending_bytes_max - self._pending_bytes
        )

    def begin(
        self, pending_id: int, account: Account, request: int, frame_bytes: int, *, outlives_leader: bool = False
    ) -> None:
        """A frame was taken under this number."""
        account.pending_ids.add(pending_id)
        account.pending_bytes += frame_bytes
        self._pending_bytes += frame_bytes
        self.pending[pending_id] = Pending(account, request, self._ticks, frame_bytes, outlives_leader)

    def end(self, pending_id: int) -> Pending | None:
        """A frame got its reply, or gets none; None if it was forgotten before."""
        pending = self.pending.pop(pending_id, None)
        if pending is not None:
            pending.account.pending_ids.discard(pending_id)
            pending.account.pending_bytes -= pending.frame_bytes
            self._pending_bytes -= pending.frame_bytes
        return pending

    def forget_older(self, ticks: int) -> None:
        """End the frames that were taken `ticks` ticks ago or earlier."""
        oldest = self._ticks - ticks
        stale = []
        for pending_id, pending in self.pending.items():  # In the order of arrival, so the look ends early.
            if pending.taken_at_tick > oldest:
                break
            stale.append(pending_id)
        for pending_id in stale:
            self.end(pending_id)

    # --- bytes to read ---

    @property
    def has_held(self) -> bool:
        """Whether any connection is held."""
        return bool(self._held)

    def send(self, routing_id: bytes, kind: int, body: bytes) -> None:
        """Hand a frame over; what the connection or the node has no room for is dropped, its client asks again."""
        account, size = self.of(routing_id), len(body)
        is_light = account.unread_bytes + size < LOOK_BYTES and 2 * self._unread_bytes < self._bytes_max
        if not is_light and not self._has_room(account, size):
            self._hold(account)
        elif self._endpoint.send(routing_id, kind, body):
            account.handed_bytes += size
            account.unread_bytes += size
            self._unread_bytes += size
            if not is_light and self._is_over(account):
                self._hold(account)
        elif self._endpoint.unread_bytes(routing_id) == 0:
            self._forget(account)  # It takes nothing although it has nothing to read: it is not there any more.

    def tick(self) -> None:
        """Cut those that are held and do not read, and look at some of the others."""
        self._ticks += 1
        self.look_at_held()
        stall_ticks = STALL_TICKS_MIN if self._is_scarce() else self._stall_ticks
        for account in list(self._held.values()):
            if self._ticks - account.moved_at_tick >= stall_ticks:
                self._endpoint.cut(account.routing_id)
                self._forget(account)
        for _ in range(min(SWEEP_CONNECTIONS, len(self._accounts))):
            routing_id, account = self._accounts.popitem(last=False)
            if account.unread_bytes:
                self._look(account)
                if account.unread_bytes and self._is_over(account):
                    self._hold(account)
            elif not account.pending_ids and routing_id not in self._held:
                continue
            self._accounts[routing_id] = account

    def look_at_held(self) -> bool:
        """Release who has read enough; returns whether somebody else reads as well, so that it is soon time again."""
        somebody_reads = False
        for account in list(self._held.values()):
            self._look(account)
            acked_bytes = account.handed_bytes - account.unread_bytes
            reads = acked_bytes > account.acked_bytes or account.unread_bytes == 0
            if reads:
                account.acked_bytes, account.moved_at_tick = acked_bytes, self._ticks
            if 2 * account.unread_bytes <= self._threshold_bytes():
                del self._held[account.routing_id]
                self._news.held.discard(account.routing_id)
                self._news.released.add(account.routing_id)
            else:
                somebody_reads |= reads
        return somebody_reads

    def take_changes(self) -> Changes | None:
        """What became of which connections since the last call, None if nothing did."""
        news = self._news
        if not (news.held or news.released or news.gone):
            return None
        self._news = Changes(set(), set(), set())
        return news

    # --- within ---

    def _has_room(self, account: Account, more_bytes: int) -> bool:
        self._look(account)
        return (
            account.unread_bytes + more_bytes <= self._client_bytes_max
            and self._unread_bytes + more_bytes <= self._bytes_max
        )

    def _is_scarce(self) -> bool:
        """Whether three quarters of what all connections share are used up."""
        limits = self._limits
        return (
            4 * self._unread_bytes > 3 * self._bytes_max
            or 4 * len(self.pending) > 3 * limits.pending_frames_max
            or 4 * self._pending_bytes > 3 * limits.pending_bytes_max
        )

    def _threshold_bytes(self) -> int:
        scarce_bytes = 3 * self._bytes_max // 4
        if self._unread_bytes <= scarce_bytes:
            return self._hold_bytes
        return min(self._hold_bytes, scarce_bytes // max(1, len(self._accounts)))

    def _is_over(self, account: Account) -> bool:
        return account.unread_bytes >= self._threshold_bytes()

    def _look(self, account: Account) -> None:
        unread_bytes = self._endpoint.unread_bytes(account.routing_id)
        self._unread_bytes += unread_bytes - account.unread_bytes
        account.unread_bytes = unread_bytes

    def _hold(self, account: Account) -> None:
        if account.routing_id not in self._held:
            self._held[account.routing_id] = account
            account.acked_bytes = account.handed_bytes - account.unread_bytes
            account.moved_at_tick = self._ticks
            self._news.released.discard(account.routing_id)
            self._news.held.add(account.routing_id)

    def _forget(self, account: Account) -> None:
        """This connection is gone: nobody waits for what it asked."""
        del self._accounts[account.routing_id]
        self._held.pop(account.routing_id, None)
        self._unread_bytes -= account.unread_bytes
        self._pending_bytes -= account.pending_bytes
        for pending_id in account.pending_ids:
            del self.pending[pending_id]
        self._news.held.discard(account.routing_id)
        self._news.released.discard(account.routing_id)
        self._news.gone.add(account.routing_id)
