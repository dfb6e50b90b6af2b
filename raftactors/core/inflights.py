"""The window of appends that were sent to one follower and not yet acknowledged."""

from __future__ import annotations

from collections import deque

from raftactors.core.types import UNLIMITED
from raftactors.errors import InvariantViolation


class Inflights:
    """A first-in first-out window, bounded in messages and in payload bytes.

    One append is let through while there is room for a message and the bytes in flight are below their limit, so
    the byte limit is overshot by at most one message. Source: thesis section 10.2.1 (pipelining).
    """

    __slots__ = ("_window", "bytes", "bytes_max", "count", "messages_max")

    def __init__(self, messages_max: int, bytes_max: int = UNLIMITED) -> None:
        """`messages_max` is at least 1, `bytes_max` at least 1."""
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.count = 0
        self.bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def is_full(self) -> bool:
        """Whether no further append may be sent."""
        return self.count >= self.messages_max or self.bytes >= self.bytes_max

    def add(self, index: int, payload_bytes: int) -> None:
        """Record an append whose last entry is `index`. Indexes never fall, and the window must not be full."""
        if self.is_full():
            raise InvariantViolation(f"append up to {index} sent into a full window of {self.count} messages")
        self._window.append((index, payload_bytes))
        self.count += 1
        self.bytes += payload_bytes

    def free_up_to(self, index: int) -> None:
        """Forget every append that ends at or before `index`; a stale index frees nothing."""
        window = self._window
        while window and window[0][0] <= index:
            self.bytes -= window.popleft()[1]
            self.count -= 1

    def clear(self) -> None:
        """Forget everything that is in flight."""
        self._window.clear()
        self.count = 0
        self.bytes = 0

    def copy(self) -> Inflights:
        """An independent window with the same content."""
        twin = Inflights(self.messages_max, self.bytes_max)
        twin._window = self._window.copy()
        twin.count = self.count
        twin.bytes = self.bytes
        return twin
