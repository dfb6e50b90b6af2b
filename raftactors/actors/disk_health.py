"""What consensus knows of its node's disk, and when that is too little to lead or to stand for election."""

from __future__ import annotations

from collections import deque
from enum import StrEnum


class DiskState(StrEnum):
    """The state of a node's disk as the status document names it."""

    OK = "ok"
    FULL = "full"
    """No room for the next segment of the log: terms and votes are still written, entries are no longer taken."""
    STALLED = "stalled"
    """An append has been under way for too long: nothing can be promised until it returns."""


class DiskHealth:
    """Counts how long the oldest append has been under way, in ticks, and remembers whether the disk is full.

    Counted in ticks, as elections are: while the whole process is paused no tick comes and no time passes. Appends
    come back in the order in which they were handed out.
    """

    def __init__(self, *, stall_ticks: int) -> None:
        self.is_full = False
        self._stall_ticks = stall_ticks
        self._handed_out: deque[int] = deque()

    def handed_out(self, tick: int) -> None:
        """An append was given to the storage actor at this tick."""
        self._handed_out.append(tick)

    def finished(self, count: int) -> None:
        """The `count` oldest appends are durable."""
        for _ in range(count):
            self._handed_out.popleft()

    def state(self, tick: int) -> DiskState:
        """The state at this tick; a full disk, which an operator can help, is named before a stall that follows."""
        if self.is_full:
            return DiskState.FULL
        if self._handed_out and tick - self._handed_out[0] >= self._stall_ticks:
            return DiskState.STALLED
        return DiskState.OK
