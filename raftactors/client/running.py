"""The client threads that run, so that the end of the interpreter ends them, and never waits long for them."""

from __future__ import annotations

import atexit
import time
from typing import Protocol

EXIT_MS_MAX = 1_000
"""How long the end of the interpreter waits for all clients that nobody closed, together."""


class Endable(Protocol):
    """What runs in a thread of its own."""

    def exit(self) -> None:
        """Begin to end because the program does, without waiting."""
        ...

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread, at most `timeout_s`."""
        ...


running: set[Endable] = set()
"""Who runs now; each adds itself before its thread starts, and leaves at its end."""


def end_all() -> None:
    """End what still runs. Called at exit, when the other threads that are not daemons have come to their ends."""
    left = list(running)
    for one in left:
        one.exit()
    deadline_s = time.monotonic() + EXIT_MS_MAX / 1000
    for one in left:
        one.join(max(0.0, deadline_s - time.monotonic()))


atexit.register(end_all)
