"""What one connection, and all together, may have under way and unread."""

from __future__ import annotations

from typing import cast

import pytest

from raftactors.actors.client_accounts import STALL_TICKS_MIN, SWEEP_CONNECTIONS, ClientAccounts
from raftactors.codec.frames import FrameKind
from raftactors.config import Limits
from raftactors.errors import ConfigError
from raftactors.transport.client_endpoint import ClientEndpoint

ANN, BEN = b"ann", b"ben"
KIB = 1024
FRAME = bytes(200 * KIB)
TICK_MS = 50
STALL_TICKS = 20


class SlowEndpoint:
    """Keeps what it was given until `read` takes it; connections that are `gone` take nothing."""

    def __init__(self) -> None:
        self.unread: dict[bytes, int] = {}
        self.gone: set[bytes] = set()
        self.cuts: list[bytes] = []
        self.looks = 0

    def send(self, routing_id: bytes, kind: int, body: bytes) -> bool:
        if routing_id in self.gone:
            return False
        self.unread[routing_id] = self.unread.get(routing_id, 0) + len(body)
        return True

    def unread_bytes(self, routing_id: bytes) -> int:
        self.looks += 1
        return self.unread.get(routing_id, 0)

    def cut(self, routing_id: bytes) -> None:
        self.cuts.append(routing_id)
        self.unread.pop(routing_id, None)
        self.gone.add(routing_id)

    def read(self, routing_id: bytes, size: int) -> None:
        self.unread[routing_id] -= min(size, self.unread[routing_id])


class Rig:
    def __init__(self, **limits: int) -> None:
        self.endpoint = SlowEndpoint()
        self.limits = Limits(client_stall_ms=STALL_TICKS * TICK_MS, **limits)
        self.clients = ClientAccounts(self.limits, cast(ClientEndpoint, self.endpoint), tick_ms=TICK_MS)
        self._next_id = 0

    def begin(self, routing_id: bytes, frame_bytes: int = 100) -> bool:
        """Take one more frame of this connection, if that is admitted."""
        account = self.clients.of(routing_id)
        if not self.clients.admits(account):
            return False
        self._next_id += 1
        self.clients.begin(self._next_id, account, 1, frame_bytes)
        return True

    def send(self, routing_id: bytes, body: bytes = FRAME) -> None:
        self.clients.send(routing_id, FrameKind.REPLIES, body)

    def fill(self, routing_id: bytes) -> int:
        """Send until nothing more is taken; the unread bytes then."""
        for _ in range(20):
            self.send(routing_id)
        return self.endpoint.unread[routing_id]

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.clients.tick()


# --- frames under way ---


def test_frames_under_way_are_bounded_for_a_connection() -> None:
    rig = Rig(client_pending_frames_max=3)
    assert [rig.begin(ANN) for _ in range(4)] == [True, True, True, False]
    assert rig.begin(BEN)
    assert rig.clients.end(1) is not None
    assert rig.clients.end(1) is None
    assert rig.begin(ANN)


def test_their_bytes_are_bounded_for_a_connection() -> None:
    rig = Rig(client_pending_bytes_max=1_000)
    assert [rig.begin(ANN, 600) for _ in range(3)] == [True, True, False]
    assert rig.begin(BEN, 600)


def test_what_many_connections_of_one_client_give_back_goes_to_others() -> None:
    rig = Rig(pending_frames_max=1_000)
    greedy = [b"greedy-%d" % number for number in range(50)]
    for routing_id in greedy:
        while rig.begin(routing_id):
            pass
    for _ in range(5):
        rig.clients.end(next(iter(rig.clients.pending)))
        assert not any(rig.begin(routing_id) for routing_id in greedy[:9])
        assert rig.begin(BEN) or any(rig.begin(routing_id) for routing_id in greedy[9:])
    assert len(rig.clients.of(BEN).pending_ids) >= 1
    assert len(rig.clients.pending) <= 1_000


def test_the_bytes_of_all_frames_together_are_bounded() -> None:
    rig = Rig(pending_bytes_max=1_000_000)
    for number in range(50):
        while rig.begin(b"greedy-%d" % number, 10_000):
            pass
    assert sum(pending.frame_bytes for pending in rig.clients.pending.values()) <= 1_010_000
    rig.clients.end(1)
    rig.clients.end(2)
    assert rig.begin(BEN, 100)


# --- unread bytes ---


def test_a_connection_that_never_reads_costs_its_limit_at_most_and_then_ends() -> None:
    rig = Rig()
    rig.begin(ANN)
    assert rig.fill(ANN) <= rig.limits.client_unread_bytes_max
    changes = rig.clients.take_changes()
    assert changes is not None
    assert changes.held == {ANN}
    rig.tick(STALL_TICKS - 1)
    assert rig.endpoint.cuts == []
    rig.tick()
    assert rig.endpoint.cuts == [ANN]
    changes = rig.clients.take_changes()
    assert changes is not None
    assert changes.gone == {ANN}
    assert not rig.clients.pending
    assert not rig.clients.has_held


def test_it_is_held_while_two_more_replies_fit() -> None:
    """They may be under way when the application hears of it."""
    rig = Rig()
    while not rig.clients.has_held:
        rig.send(ANN)
    assert rig.endpoint.unread[ANN] + 2 * len(FRAME) <= rig.limits.client_unread_bytes_max


def test_a_slow_reader_keeps_its_connection_and_goes_on_when_it_has_read_half() -> None:
    rig = Rig()
    rig.fill(ANN)
    rig.clients.take_changes()
    for _ in range(5 * STALL_TICKS):
        if not rig.clients.has_held:
            break
        rig.endpoint.read(ANN, 10 * KIB)
        rig.tick()
    assert rig.endpoint.cuts == []
    changes = rig.clients.take_changes()
    assert changes is not None
    assert changes.released == {ANN}


def test_what_changes_twice_is_told_as_it_is_at_last() -> None:
    rig = Rig()
    rig.fill(ANN)
    rig.endpoint.read(ANN, 1024 * KIB)
    rig.tick()
    changes = rig.clients.take_changes()
    assert changes is not None
    assert (changes.held, changes.released) == (set(), {ANN})
    rig.fill(ANN)
    rig.clients.take_changes()
    rig.endpoint.read(ANN, 1024 * KIB)
    rig.tick()
    rig.fill(ANN)
    changes = rig.clients.take_changes()
    assert changes is not None
    assert (changes.held, changes.released) == ({ANN}, set())
    rig.tick(STALL_TICKS)
    changes = rig.clients.take_changes()
    assert changes is not None
    assert (changes.held, changes.gone) == (set(), {ANN})


def test_one_that_reads_as_fast_as_it_is_given_more_makes_progress() -> None:
    """Replies to commands go on while it is held, so the sum may stay where it is."""
    rig = Rig()
    rig.fill(ANN)
    for _ in range(3 * STALL_TICKS):
        rig.endpoint.read(ANN, 20 * KIB)
        rig.send(ANN, bytes(20 * KIB))
        rig.tick()
    assert rig.endpoint.cuts == []


def test_looking_tells_whether_to_look_again_soon() -> None:
    rig = Rig()
    rig.fill(ANN)
    assert not rig.clients.look_at_held()
    rig.endpoint.read(ANN, KIB)
    assert rig.clients.look_at_held()
    assert not rig.clients.look_at_held()


def test_many_that_do_not_read_are_cut_soon_and_one_that_reads_is_not() -> None:
    rig = Rig(unread_bytes_max=8 * 1024 * KIB)
    for number in range(60):
        for _ in range(20):
            rig.send(b"deaf-%d" % number)
    assert sum(rig.endpoint.unread.values()) <= rig.limits.unread_bytes_max
    got_bytes = 0
    for _ in range(STALL_TICKS):
        rig.send(BEN)
        got_bytes += rig.endpoint.unread.pop(BEN, 0)
        rig.tick()
    assert BEN not in rig.endpoint.cuts
    assert got_bytes >= (STALL_TICKS - STALL_TICKS_MIN - 1) * len(FRAME)
    assert {b"deaf-0", b"deaf-1"} <= set(rig.endpoint.cuts)


def test_one_with_its_share_unread_is_cut_too_when_that_is_scarce() -> None:
    rig = Rig(unread_bytes_max=2 * 1024 * KIB)
    for number in range(9):
        rig.send(b"deaf-%d" % number)
    assert rig.clients.take_changes() is not None
    rig.tick(STALL_TICKS_MIN + 1)
    assert rig.endpoint.cuts
    assert sum(rig.endpoint.unread.values()) <= 3 * rig.limits.unread_bytes_max // 4


def test_frames_of_connections_that_do_not_read_make_room_soon() -> None:
    rig = Rig(pending_frames_max=10)
    for _ in range(5):
        rig.begin(ANN)
    for _ in range(3):
        rig.begin(BEN)
    rig.fill(ANN)
    rig.tick(STALL_TICKS_MIN)
    assert rig.endpoint.cuts == [ANN]
    assert len(rig.clients.pending) == 3


def test_small_replies_ask_nobody() -> None:
    rig = Rig()
    for _ in range(100):
        rig.send(ANN, bytes(100))
    assert rig.endpoint.looks == 0


def test_a_connection_that_has_gone_is_forgotten_with_its_frames() -> None:
    rig = Rig()
    rig.begin(ANN)
    rig.endpoint.gone.add(ANN)
    rig.send(ANN, b"reply")
    assert not rig.clients.pending
    changes = rig.clients.take_changes()
    assert changes is not None
    assert changes.gone == {ANN}
    assert rig.clients.take_changes() is None


def test_idle_connections_are_dropped_and_a_tick_looks_at_some_only() -> None:
    rig = Rig()
    for number in range(3 * SWEEP_CONNECTIONS):
        rig.send(b"%d" % number, b"reply")
    rig.endpoint.unread.clear()
    rig.tick()
    assert rig.endpoint.looks == SWEEP_CONNECTIONS
    rig.tick(5)
    assert len(rig.clients._accounts) == 0


def test_three_frames_are_granted_however_small_the_limit_is() -> None:
    rig = Rig(client_unread_bytes_max=1, client_frame_bytes_max=400 * KIB)
    assert rig.fill(ANN) == 6 * len(FRAME)


def test_the_limit_for_all_is_no_less_than_that_for_one() -> None:
    with pytest.raises(ConfigError, match="unread_bytes_max"):
        Limits(unread_bytes_max=1_000 * KIB)
