"""The actor that keeps the connections of strangers, clients and members within what each may hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import GuardReport
from raftactors.transport import Wakeup
from raftactors.transport.connections import ConnectionAccount

PACE_S = 0.05
"""Between two looks at least: what may come on all connections in this time can exceed the allowance."""

SUSPICIOUS_PACE_S = 0.02
"""The same while a connection holds more than a burst of small frames."""

LOOK_SHARE = 0.05
"""Looks take at most about this share of a processor, however many connections there are."""


class GuardWaiter:
    """Sleeps until connections come, go or bring more, but not before the time for the next look has come."""

    def __init__(self, accounts: Mapping[str, ConnectionAccount]) -> None:
        self.not_before_s = 0.0
        self._wakeup = Wakeup()
        self._told = zmq.Poller()
        self._told.register(self._wakeup.fileno(), zmq.POLLIN)
        self._all = zmq.Poller()
        self._all.register(self._wakeup.fileno(), zmq.POLLIN)
        for account in accounts.values():
            self._all.register(account.events.socket, zmq.POLLIN)
            self._all.register(account.input_descriptor, zmq.POLLIN)

    def signal(self) -> None:
        """Wake the owner."""
        self._wakeup.signal()

    def wait(self, timeout_s: float | None) -> None:
        """Sleep; `timeout_s` counts from the time for the next look."""
        pause_s = self.not_before_s - time.monotonic()
        if pause_s > 0 and self._told.poll(max(1, round(pause_s * 1000))):
            self._wakeup.clear()
            return
        ready: list[tuple[Any, int]] = self._all.poll(None if timeout_s is None else round(timeout_s * 1000))
        if any(source == self._wakeup.fileno() for source, _ in ready):
            self._wakeup.clear()

    def close(self) -> None:
        """Release the wake-up descriptor."""
        self._wakeup.close()


class ConnectionGuard(BatchActor):
    """Looks at the connections of every listener when they bring more, and ends those that exceed their allowance.

    It has a thread of its own: a bomb delivers nothing that would wake the owner of the listener.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        accounts: Mapping[str, ConnectionAccount],
        waiter: GuardWaiter,
        monitor: Mailbox,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(mailbox)
        self._accounts = accounts
        self._waiter = waiter
        self._monitor = monitor
        self._clock = clock
        self._reported: GuardReport | None = None

    def flush(self) -> None:
        """Look once, and choose when to look again."""
        began_s = time.thread_time()
        for account in self._accounts.values():
            account.look()
        # The time of the processor, not the clock's: on a busy machine a look takes long, and is the more urgent.
        taken_s = time.thread_time() - began_s
        suspicious = any(account.has_suspects for account in self._accounts.values())
        pace_s = max(SUSPICIOUS_PACE_S if suspicious else PACE_S, taken_s / LOOK_SHARE)
        self._waiter.not_before_s = self._clock() + pace_s
        is_quiet = all(account.is_quiet for account in self._accounts.values())
        self.mailbox.idle_timeout_s = None if is_quiet else 0.0
        self._report()

    def _report(self) -> None:
        report = GuardReport(
            {name: account.count for name, account in self._accounts.items()},
            {name: dict(account.cuts) for name, account in self._accounts.items() if account.cuts},
        )
        if report != self._reported:
            self._reported = report
            self._monitor.tell(report, Lane.CONTROL)
