"""Syncing on a schedule, for logs that do not sync every batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic


class IntervalSync:
    """Calls `sync` at most `interval_ms` after something was written; 0 means never.

    In a thread of its own where the file system allows one, which is started by the first write; otherwise with the
    first write after the interval. `lock` is held by whoever syncs or exchanges the file.
    """

    def __init__(self, sync: Callable[[], None], interval_ms: int, *, threaded: bool) -> None:
        self.lock = threading.Lock()
        self._sync = sync
        self._interval_seconds = interval_ms / 1_000
        self._threaded = threaded
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._due: float | None = None

    def written(self) -> None:
        """Something now waits for a sync."""
        if self._threaded:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wal-interval-sync", daemon=True)
                self._thread.start()
            self._wake.set()
            return
        now = monotonic()
        if self._due is None:
            self._due = now + self._interval_seconds
        elif now >= self._due:
            self._due = None
            self._sync()

    def close(self) -> None:
        """End the thread; what waits is for the caller to sync."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._stop.wait(self._interval_seconds):
                return
            self._sync()
