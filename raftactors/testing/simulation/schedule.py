"""Virtual time: what happens next, and a digest over everything that happened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, NamedTuple

Action = Callable[..., None]


class Event(NamedTuple):
    """Something that happens at a time; `order` keeps those of one time in the order in which they were asked for."""

    time_us: int
    order: int
    label: str
    node_id: int
    action: Action
    arguments: tuple[Any, ...]


class Schedule:
    """The queue of events. Equal seeds give equal events, so `digest` names a whole run."""

    def __init__(self) -> None:
        self.now_us = 0
        self.count = 0
        self._heap: list[Event] = []
        self._order = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def after(self, delay_us: int, label: str, node_id: int, action: Action, *arguments: Any) -> None:
        """Let `action(*arguments)` happen `delay_us` (0 or more) from now; `node_id` is 0 where none is concerned."""
        self._order += 1
        heappush(self._heap, Event(self.now_us + delay_us, self._order, label, node_id, action, arguments))

    def take(self) -> Event | None:
        """The next event, None if there is none; the clock moves to it."""
        if not self._heap:
            return None
        event = heappop(self._heap)
        self.now_us = event.time_us
        self.count += 1
        return event

    def witness(self, text: str) -> None:
        """Add what an event led to."""
        self._digest.update(text.encode())

    def digest(self) -> str:
        """What names the run so far, as hexadecimal text."""
        return self._digest.hexdigest()
