"""Waking a thread that sleeps in a poll."""

from __future__ import annotations

import contextlib
import os
import threading


class Wakeup:
    """An eventfd: any thread may `signal`, the owner polls `fileno()` for input and calls `clear` when it wakes.

    Signals do not add up: any number of them before `clear` is one wake-up. `signal` after `close` does nothing, so
    that a sender that is late does not write into a descriptor that has a new meaning. `signal` may be called by what
    the garbage collector runs, in the middle of any of these methods.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor to poll for input; -1 after `close`."""
        return self._descriptor

    def signal(self) -> None:
        """Make the descriptor readable until `clear`. Never blocks."""
        with self._lock:
            if self._descriptor >= 0:
                # The counter is full only when it was signalled 2**64 - 2 times, and is readable then anyway.
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        """Forget all signals so far; call it before looking at what they announce."""
        with self._lock:
            if self._descriptor >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back; a second call does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                descriptor, self._descriptor = self._descriptor, -1
                os.close(descriptor)
