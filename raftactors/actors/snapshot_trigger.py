"""When the application takes its next snapshot, and who waits for it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from raftactors.config import Limits
from raftactors.core.types import Entry

RETRY_MS = 10_000
"""How long to wait after a snapshot that did not come about."""


class SnapshotTrigger:
    """Counts what was applied since the last snapshot. One snapshot is under way at a time.

    `index` is where the last snapshot ends. Who asks by `ask` waits for the first snapshot that is frozen afterwards.
    """

    def __init__(self, limits: Limits, *, index: int, tick_ms: int) -> None:
        self.index = index
        self._bytes_max = limits.snapshot_bytes
        self._entries_max = limits.snapshot_entries
        self._retry_ticks = math.ceil(RETRY_MS / tick_ms)
        self._bytes = self._entries = 0
        self._wanted = self._running = self._frozen = False
        self._pause_ticks = 0
        self._asking: list[int] = []
        self._waiting: list[int] = []

    def count(self, entries: Iterable[Entry]) -> None:
        """These were applied."""
        for entry in entries:
            self._entries += 1
            self._bytes += len(entry.data or b"")

    def tick(self) -> None:
        """A tick has passed."""
        self._pause_ticks = max(0, self._pause_ticks - 1)

    def want(self) -> None:
        """Take one as soon as possible."""
        self._wanted = True

    def ask(self, pending_id: int) -> None:
        """The same, and remember who asked."""
        self._asking.append(pending_id)

    def is_due(self, applied_index: int) -> bool:
        """Whether to freeze now. Nothing new since the last one is no reason."""
        if self._running or applied_index <= self.index:
            return False
        if self._asking:
            return True
        much = self._bytes >= self._bytes_max or self._entries >= self._entries_max
        return (much or self._wanted) and not self._pause_ticks

    def begin(self) -> None:
        """The replica was frozen."""
        self._running = self._frozen = True
        self._wanted = False
        self._bytes = self._entries = 0
        self._waiting, self._asking = self._asking, []

    def thaw(self) -> bool:
        """Whether the replica was frozen until now."""
        frozen, self._frozen = self._frozen, False
        return frozen

    def end(self, index: int, *, failed: bool) -> list[int]:
        """The snapshot under way came about, or not; returns who waited for it."""
        self._running = False
        if failed:
            self._wanted = True
            self._pause_ticks = self._retry_ticks
        else:
            self.index = max(self.index, index)
        waiting, self._waiting = self._waiting, []
        return waiting

    def restored(self, index: int) -> None:
        """The state was replaced by a received snapshot that ends at `index`."""
        self.index = index
        self._bytes = self._entries = 0
        self._wanted = False

    def take_needless(self, applied_index: int) -> list[int]:
        """Who asked although nothing was applied since the last snapshot: it is the answer."""
        if self._running or applied_index > self.index or not self._asking:
            return []
        asking, self._asking = self._asking, []
        return asking
