"""Log lines leave the process on a thread of their own, so that a blocked stderr never blocks Raft (RELIABILITY E2)."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TextIO

QUEUED_LINES_MAX = 10_000
"""Lines that wait for the stream; what comes beyond is counted and dropped."""

CLOSE_TIMEOUT_S = 1.0
"""How long the end of the process waits for the last lines."""


class LogWriter(logging.Handler):
    """Formats in the caller's thread, writes in its own. `dropped` counts the lines that found the queue full."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUED_LINES_MAX)
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line; never waits."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, but no longer than `CLOSE_TIMEOUT_S`: the reader of the stream may be gone."""
        try:
            self._lines.put(None, timeout=CLOSE_TIMEOUT_S)
            self._thread.join(CLOSE_TIMEOUT_S)
        except queue.Full:
            pass
        super().close()

    def _write(self) -> None:
        told = 0
        while (line := self._lines.get()) is not None:
            try:
                if self.dropped > told:
                    self._stream.write(f"raftactors: {self.dropped - told} log lines were dropped\n")
                    told = self.dropped
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except OSError:
                # Nobody reads any more; the node goes on, and the lines count as dropped.
                self.dropped += 1
