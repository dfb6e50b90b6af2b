"""The connections of one listener: what each has brought and been given, and which of them have to go.

Two threads share an account. The owner of the listening socket enters what it takes and sends (`meet`, `find`,
`Connection`); the guard takes the events of connections, asks the kernel, and shuts down (`ConnectionAccount`).
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import zmq

from raftactors.transport.allowance import Allowance, Holding, excess
from raftactors.transport.monitoring import EventStream
from raftactors.transport.tcp import cookie_of, open_window, progress_of, queued_bytes, shut_down

_SHORT_FRAME_BYTES = 255
_NEW_BYTES = select.EPOLLIN | select.EPOLLET

QUIET_BYTES = 4 * 1024
"""A connection that holds no more than this is not looked at again before it brings more."""

SUSPICIOUS_BYTES = 64 * 1024
"""One that holds more than this is looked at again soon."""


def wire_bytes(frame_bytes: int) -> int:
    """What a frame takes on a connection, ZeroMQ's head included."""
    return frame_bytes + (9 if frame_bytes > _SHORT_FRAME_BYTES else 2)


class Connection:
    """One connection as the owner of the listener knows it, from its first frame on.

    `welcome` it when it has delivered something good: until then its window is small. `delivered_bytes` and
    `handed_bytes` count what was taken from it and handed to it, heads included. `trusted` says that the guard need not
    watch it any more: its member was confirmed.
    """

    __slots__ = (
        "_acked_before",
        "cookie",
        "delivered_bytes",
        "descriptor",
        "handed_bytes",
        "is_welcome",
        "route",
        "trusted",
    )

    def __init__(self, route: bytes, descriptor: int) -> None:
        self.route = route
        self.descriptor = descriptor
        self.delivered_bytes = 0
        self.handed_bytes = 0
        self.is_welcome = False
        self.trusted = False
        self.cookie = 0
        self._acked_before = 0
        with contextlib.suppress(OSError):  # It has ended; what it left is taken all the same.
            self.cookie = cookie_of(descriptor)
            self._acked_before = progress_of(descriptor).acked_bytes

    def welcome(self, window_bytes: int) -> None:
        """Let the other side have up to so much under way; only the first call counts."""
        if not self.is_welcome:
            self.is_welcome = True
            open_window(self.descriptor, self.cookie, window_bytes)

    def unread_bytes(self) -> int:
        """Bytes handed to it that the other side's kernel does not have yet; 0 for one that has ended."""
        try:
            if cookie_of(self.descriptor) != self.cookie:
                return 0
            acked = progress_of(self.descriptor).acked_bytes - self._acked_before
        except OSError:
            return 0
        return max(0, self.handed_bytes - acked)

    def cut(self) -> bool:
        """Shut the connection down; False if it has ended."""
        return shut_down(self.descriptor, self.cookie)


class _Watched:
    """One accepted connection as the guard knows it."""

    __slots__ = (
        "accepted_s",
        "cookie",
        "delivered_at_look",
        "descriptor",
        "holding",
        "received_at_look",
        "taken_at_look",
    )

    def __init__(self, descriptor: int, cookie: int, accepted_s: float) -> None:
        self.descriptor = descriptor
        self.cookie = cookie
        self.accepted_s = accepted_s
        self.holding = Holding()
        self.received_at_look = 0
        self.delivered_at_look = 0
        self.taken_at_look: tuple[int, int] | None = None


class ConnectionAccount:
    """Watches the connections of `listener`, which must not be bound yet, within `allowance`.

    `events` is readable when connections come or go, `input_descriptor` when one that is watched brings more.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        listener: zmq.Socket[bytes],
        allowance: Allowance,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.allowance = allowance
        self.cuts: Counter[str] = Counter()
        self.events = EventStream(context, listener, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self.taken = 0
        self.emptied = 0
        self._clock = clock
        self._input = select.epoll()
        self._lock = threading.Lock()
        self._met: dict[int, Connection] = {}
        self._gone: deque[tuple[int, Connection]] = deque()
        self._by_route: dict[bytes, Connection] = {}
        self._watched: dict[int, _Watched] = {}
        self._suspects: set[int] = set()
        self._is_suspicious = False

    # --- the owner of the listener ---

    def find(self, route: bytes) -> Connection | None:
        """The connection behind a routing id, None for one that has delivered nothing yet or is gone."""
        while self._gone and self._gone[0][0] < self.emptied:
            # The queue was empty since it ended, so it has delivered its last frame.
            _, gone = self._gone.popleft()
            if self._by_route.get(gone.route) is gone:
                del self._by_route[gone.route]
        return self._by_route.get(route)

    def meet(self, route: bytes, descriptor: int) -> Connection:
        """Enter a connection with its first frame."""
        connection = Connection(route, descriptor)
        if connection.cookie:
            with self._lock:
                self._met[descriptor] = connection
            self._by_route[route] = connection
        return connection

    # --- the guard ---

    @property
    def count(self) -> int:
        """Connections that are open."""
        return len(self._watched)

    @property
    def has_suspects(self) -> bool:
        """Whether a connection holds so much that it should be looked at again soon."""
        return self._is_suspicious

    @property
    def is_quiet(self) -> bool:
        """Whether all connections hold so little that none need be looked at before one brings more."""
        return not self._suspects

    @property
    def input_descriptor(self) -> int:
        """Readable when a watched connection has brought more since the last look."""
        return self._input.fileno()

    def look(self) -> None:
        """Take in who came and went, ask the kernel about those that brought more, and cut what is too much."""
        newcomers = False
        for event in self.events.take():
            self._ended(event.descriptor)
            if event.kind == zmq.EVENT_ACCEPTED:
                self._accepted(event.descriptor)
                newcomers = True
        if newcomers:
            self._make_room()
        active = {descriptor for descriptor, _ in self._input.poll(0)} | self._suspects
        looked_at = [watched for watched in map(self._watched.get, active) if watched is not None]
        for watched in looked_at:
            self._measure(watched)
        self._is_suspicious = any(watched.holding.backlog_bytes > SUSPICIOUS_BYTES for watched in looked_at)
        # Those that were not looked at hold little: they need not be weighed.
        for cut in excess([watched.holding for watched in looked_at], self.allowance):
            self._cut(looked_at[cut.position], cut.reason)

    def close(self) -> None:
        """Stop watching; the listening socket must still be open. A second call does nothing."""
        if not self._input.closed:
            self.events.close()
            self._input.close()

    def _accepted(self, descriptor: int) -> None:
        try:
            watched = _Watched(descriptor, cookie_of(descriptor), self._clock())
            self._input.register(descriptor, _NEW_BYTES)
        except OSError:
            return  # It has ended already, and its end is told next.
        self._watched[descriptor] = watched
        self._suspects.add(descriptor)  # What it brought before it was watched announces itself to nobody.

    def _ended(self, descriptor: int) -> None:
        watched = self._watched.pop(descriptor, None)
        self._suspects.discard(descriptor)
        if watched is None:
            return
        with self._lock:
            connection = self._met.get(descriptor)
            if connection is not None and connection.cookie == watched.cookie:
                del self._met[descriptor]
                self._gone.append((self.emptied, connection))

    def _make_room(self) -> None:
        """Let the strangers go that came first, then whoever came last, until there are not too many connections."""
        surplus = len(self._watched) - self.allowance.connections_max
        strangers = [watched for watched in self._watched.values() if not self._connection_of(watched)]
        surplus = max(surplus, len(strangers) - self.allowance.strangers_max)
        if surplus <= 0:
            return
        strangers.sort(key=lambda watched: watched.accepted_s)
        newest = sorted(self._watched.values(), key=lambda watched: -watched.accepted_s)
        for watched in dict.fromkeys([*strangers, *newest]):
            if surplus <= 0:
                return
            surplus -= 1
            self._cut(watched, "too_many")

    def _measure(self, watched: _Watched) -> None:
        descriptor, holding = watched.descriptor, watched.holding
        connection = self._connection_of(watched)
        if connection is not None and connection.trusted:
            self._suspects.discard(descriptor)
            with contextlib.suppress(OSError):
                self._input.unregister(descriptor)
            watched.holding = Holding()
            return
        delivered = 0 if connection is None else connection.delivered_bytes
        try:
            received = progress_of(descriptor).received_bytes
            is_suspect = received - delivered > QUIET_BYTES
            if is_suspect:
                received -= queued_bytes(descriptor)  # Not in this process yet, but on its way.
        except OSError:
            return
        holding.met = connection is not None
        holding.backlog_bytes = max(0, received - delivered)
        holding.unfinished_bytes = self._unfinished(watched, delivered)
        watched.received_at_look, watched.delivered_at_look = received, delivered
        watched.taken_at_look = (self.taken, self.emptied)
        if is_suspect:
            self._suspects.add(descriptor)
        else:
            self._suspects.discard(descriptor)

    def _unfinished(self, watched: _Watched, delivered: int) -> int:
        """Bytes that certainly belong to an unfinished message: they had come before all that was complete was taken.

        The listener serves the connections in turn. So what was complete at the last look has been taken since if the
        queue was empty once, or if others had a full turn in which this connection had nothing to deliver.
        """
        if watched.taken_at_look is None:
            return 0
        taken, emptied = watched.taken_at_look
        skipped = self.taken - taken > self.count and delivered == watched.delivered_at_look
        if self.emptied == emptied and not skipped:
            return watched.holding.unfinished_bytes if delivered == watched.delivered_at_look else 0
        return max(0, watched.received_at_look - delivered)

    def _connection_of(self, watched: _Watched) -> Connection | None:
        connection = self._met.get(watched.descriptor)
        return connection if connection is not None and connection.cookie == watched.cookie else None

    def _cut(self, watched: _Watched, reason: str) -> None:
        if shut_down(watched.descriptor, watched.cookie):
            self.cuts[reason] += 1
        self._ended(watched.descriptor)
