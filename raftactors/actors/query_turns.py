"""Whose query frame is answered next: that of the connection that has used the least time."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count

from raftactors.actors.messages import ClientFrame

ACCOUNTS_MAX = 8_192
"""Connections whose used time is remembered; past that all of it is forgotten, which is as fair."""


class QueryTurns:
    """Query frames that may be answered now, in the order of arrival within a connection.

    Each connection has an account of the time that its queries took. One that comes back after a pause, or for the
    first time, starts with the account of the connection that had the last turn, so it goes before everybody who waits
    and has saved nothing up. One client with many slow queries thus delays another one by one turn at most.
    """

    def __init__(self) -> None:
        self._waiting: dict[bytes, deque[ClientFrame]] = {}
        self._held: set[bytes] = set()
        self._used_s: dict[bytes, float] = {}
        self._last_used_s = 0.0
        self._queue: list[tuple[float, int, bytes]] = []
        self._queued: set[bytes] = set()
        self._order = count()

    def __bool__(self) -> bool:
        """Whether a frame may be taken. After `forget` and `hold` it may be True in vain, until the next `take`."""
        return bool(self._queue)

    def add(self, frame: ClientFrame) -> None:
        """A frame may be answered from now on."""
        frames = self._waiting.get(frame.connection)
        if frames is None:
            self._waiting[frame.connection] = deque((frame,))
            self._queue_up(frame.connection)
        else:
            frames.append(frame)

    def take(self) -> ClientFrame | None:
        """The next frame to answer, None if there is none; `charge` must follow before the next `take`."""
        while self._queue:
            used_s, _, connection = heappop(self._queue)
            self._queued.discard(connection)
            frames = self._waiting.get(connection)
            if frames is None or connection in self._held:
                continue
            self._last_used_s = max(self._last_used_s, used_s)
            frame = frames.popleft()
            if not frames:
                del self._waiting[connection]
            return frame
        return None

    def charge(self, connection: bytes, seconds: float) -> None:
        """The frame of this connection that was taken last took so long."""
        if len(self._used_s) >= ACCOUNTS_MAX:
            self._used_s.clear()
        self._used_s[connection] = self._account_s(connection) + seconds
        if connection in self._waiting:
            self._queue_up(connection)

    def hold(self, connection: bytes) -> None:
        """Give no frame of this connection out until `release`."""
        self._held.add(connection)

    def release(self, connection: bytes) -> None:
        """This connection takes part again."""
        self._held.discard(connection)
        if connection in self._waiting:
            self._queue_up(connection)

    def forget(self, connection: bytes) -> None:
        """This connection is gone, and what waits with it."""
        self._held.discard(connection)
        self._waiting.pop(connection, None)
        self._used_s.pop(connection, None)

    def forget_frames(self) -> None:
        """Nobody waits for these frames any more."""
        self._waiting.clear()
        self._queue.clear()
        self._queued.clear()

    def _account_s(self, connection: bytes) -> float:
        return max(self._used_s.get(connection, 0.0), self._last_used_s)

    def _queue_up(self, connection: bytes) -> None:
        if connection not in self._queued and connection not in self._held:
            self._queued.add(connection)
            heappush(self._queue, (self._account_s(connection), next(self._order), connection))
