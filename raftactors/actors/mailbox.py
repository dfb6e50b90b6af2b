"""Bounded, laned, batching mailboxes: what every actor of a node has instead of pykka's unbounded queue.

A message is put into one lane. `get` hands over everything that waits as one batch, first lane first, so that ticks
and storage acknowledgements never queue behind client traffic (RELIABILITY 3.5). A full lane of peers or clients
refuses the message at once and the teller decides what that means (resend later, answer BUSY); the first two lanes
never refuse, because their producers are bounded by construction: one tick at a time, one acknowledgement for each
piece of work that was handed out.
"""

from __future__ import annotations

import queue
from collections import deque
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from pykka._envelope import Envelope

from raftactors.errors import ConfigError


class Lane(IntEnum):
    """Priority of a message: the lower, the earlier it is handled."""

    CONTROL = 0
    STORAGE = 1
    PEERS = 2
    CLIENTS = 3


_REFUSING_FROM = Lane.PEERS


class Waiter(Protocol):
    """How the owner of a mailbox sleeps. `signal` may come from any thread, `wait` only from the owner's."""

    def signal(self) -> None:
        """Wake the owner if it sleeps; signals that come while it is awake may be merged."""
        ...

    def wait(self, timeout_s: float | None) -> None:
        """Sleep until a signal, the timeout, or any other event that the waiter watches. May return early."""
        ...


class ThreadWaiter:
    """Sleeps on a queue of tokens: the cheapest hand-over between two threads of one interpreter."""

    def __init__(self) -> None:
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def signal(self) -> None:
        """Wake the owner."""
        self._tokens.put(None)

    def wait(self, timeout_s: float | None) -> None:
        """Sleep until a token arrives."""
        try:
            self._tokens.get(timeout=timeout_s)
        except queue.Empty:
            return


class Batch(NamedTuple):
    """Everything that one `get` handed over, in the order in which it is to be handled. May be empty."""

    messages: list[Any]


class Mailbox:
    """The inbox of one actor. `tell` from any thread, `get` only from the actor's own.

    `messages_max` bounds each refusing lane, `batch_max` one batch. With `idle_timeout_s` an empty batch is handed
    over when nothing came for so long. `batches` counts the batches handed over, and `busy` says that the owner is
    working on the last one: together they let the watchdog tell a long sleep from a hung handler.
    """

    def __init__(
        self,
        name: str,
        *,
        messages_max: int,
        batch_max: int = 1024,
        waiter: Waiter | None = None,
        idle_timeout_s: float | None = None,
    ) -> None:
        if messages_max < 1 or batch_max < 1:
            raise ConfigError(f"mailbox {name}: messages_max and batch_max must be at least 1")
        self.name = name
        self.batches = 0
        self.busy = False
        self.refused = 0
        self.idle_timeout_s = idle_timeout_s
        self._waiter: Waiter = waiter if waiter is not None else ThreadWaiter()
        self._messages_max = messages_max
        self._batch_max = batch_max
        self._lanes: tuple[deque[Any], ...] = tuple(deque() for _ in Lane)
        self._asleep = False

    def tell(self, message: Any, lane: Lane) -> bool:
        """Put `message` into `lane`. Returns False, and keeps nothing, when that lane refuses it."""
        waiting = self._lanes[lane]
        if lane >= _REFUSING_FROM and len(waiting) >= self._messages_max:
            self.refused += 1
            return False
        waiting.append(message)
        if self._asleep:
            self._asleep = False
            self._waiter.signal()
        return True

    def put(self, envelope: Envelope[Any]) -> None:
        """pykka's entry: a `tell`, `ask` or `stop` on the actor's reference, handled before everything else."""
        self.tell(envelope, Lane.CONTROL)

    def get(self) -> Envelope[Any]:
        """Wait for something to do and hand it over: one batch, or one of pykka's own envelopes."""
        self.busy = False
        if not any(self._lanes):
            self._sleep()
        self.busy = True
        self.batches += 1
        return self._take()

    def still_working(self) -> None:
        """The owner gets on with a long piece of work: for the watchdog a sign of life, as a new batch is."""
        self.batches += 1

    def empty(self) -> bool:
        """Whether nothing waits in any lane."""
        return not any(self._lanes)

    def waiting(self) -> int:
        """How many messages wait in all lanes together."""
        return sum(map(len, self._lanes))

    def _sleep(self) -> None:
        # The flag goes up before the lanes are looked at again: a teller that appended before this look is seen by
        # it, one that appends after sees the flag and signals.
        self._asleep = True
        if not any(self._lanes):
            self._waiter.wait(self.idle_timeout_s)
        self._asleep = False

    def _take(self) -> Envelope[Any]:
        messages: list[Any] = []
        room = self._batch_max
        for lane in self._lanes:
            while lane and room:
                if isinstance(lane[0], Envelope):
                    if messages:
                        return Envelope(Batch(messages))
                    envelope: Envelope[Any] = lane.popleft()
                    return envelope
                messages.append(lane.popleft())
                room -= 1
        return Envelope(Batch(messages))
