"""The actor that owns the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import Tick


class Ticker(BatchActor):
    """Tells its listeners one `Tick` every `tick_ms`, and after any pause of the process one tick, never a burst.

    Its own mailbox is always empty; the idle timeout of the mailbox is the clock. A tick that the listener has not yet
    handled is not followed by a second one: elections are counted in ticks, and ticks saved up during a stall would
    depose a healthy leader (RELIABILITY B3).
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        tick_ms: int,
        listeners: list[Mailbox],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(mailbox)
        self._period_s = tick_ms / 1000
        self._clock = clock
        self._listeners = [(listener, Tick()) for listener in listeners]
        self._due_s = clock() + self._period_s
        mailbox.idle_timeout_s = self._period_s

    def flush(self) -> None:
        """Tick if the period is over, and set the time of the next wake-up."""
        now_s = self._clock()
        if now_s >= self._due_s:
            for listener, tick in self._listeners:
                if not tick.waiting:
                    tick.waiting = True
                    listener.tell(tick, Lane.CONTROL)
            self._due_s = max(self._due_s + self._period_s, now_s + self._period_s / 2)
        self.mailbox.idle_timeout_s = max(self._due_s - now_s, 0.0)
