"""The actor that reads again what lies on the disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import ScrubReport
from raftactors.config import Limits
from raftactors.storage.scrubbing import Damage

log = logging.getLogger("raftactors.node")


class Scrubber(BatchActor):
    """Begins a pass every `scrub_interval_ms` and paces it; what is damaged is logged and in the status document.

    The node goes on: it serves from memory, and what it acknowledged lies on other disks too. It is its next start
    that would be refused.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        begin_pass: Callable[[], Iterator[int | Damage]],
        limits: Limits,
        monitor: Mailbox,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(mailbox)
        self._begin_pass = begin_pass
        self._interval_s = limits.scrub_interval_ms / 1000
        self._bytes_per_second = limits.scrub_bytes_per_second
        self._monitor = monitor
        self._clock = clock
        self._steps: Iterator[int | Damage] | None = None
        self._report = ScrubReport()
        # Recovery has just verified the log.
        self._due_s = self._next_pass_s = clock() + self._interval_s
        mailbox.idle_timeout_s = self._interval_s

    def flush(self) -> None:
        """Take the next step if it is due, and set the time of the next wake-up."""
        if self._clock() >= self._due_s:
            self._step()
        self.mailbox.idle_timeout_s = max(0.0, self._due_s - self._clock())

    def _step(self) -> None:
        now_s = self._clock()
        if self._steps is None:
            self._steps = self._begin_pass()
            self._next_pass_s = now_s + self._interval_s
            self._report = self._report._replace(bytes=0, damage=())
        step = next(self._steps, None)
        if step is None:
            self._steps, self._due_s = None, max(self._next_pass_s, now_s)
            self._report = self._report._replace(passes=self._report.passes + 1)
            self._monitor.tell(self._report, Lane.CONTROL)
        elif isinstance(step, Damage):
            log.error("the disk has lost what was written: %s", step.text)
            self._report = self._report._replace(damage=(*self._report.damage, step.text))
            self._monitor.tell(self._report, Lane.CONTROL)
        else:
            self._report = self._report._replace(bytes=self._report.bytes + step)
            self._due_s = now_s + step / self._bytes_per_second
