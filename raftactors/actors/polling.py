"""Sleeping on sockets and on a mailbox at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import zmq

from raftactors.transport.wakeup import Wakeup


class PollWaiter:
    """A `Waiter` whose owner also wakes when one of its sockets becomes readable.

    The set of sockets is asked for before each sleep, because links to peers come and go.
    """

    def __init__(self, sockets: Callable[[], Sequence[zmq.Socket[bytes] | Wakeup]]) -> None:
        self._wakeup = Wakeup()
        self._sockets = sockets
        self._registered: list[zmq.Socket[bytes] | Wakeup] = []
        self._poller = zmq.Poller()
        self._poller.register(self._wakeup.fileno(), zmq.POLLIN)

    def signal(self) -> None:
        """Wake the owner."""
        self._wakeup.signal()

    def wait(self, timeout_s: float | None) -> None:
        """Sleep until a signal, a readable socket or the timeout."""
        sockets = list(self._sockets())
        if sockets != self._registered:
            for socket in self._registered:
                self._poller.unregister(socket)
            for socket in sockets:
                self._poller.register(socket, zmq.POLLIN)
            self._registered = sockets
        ready = self._poller.poll(None if timeout_s is None else max(0, round(timeout_s * 1000)))
        if any(source == self._wakeup.fileno() for source, _ in ready):
            self._wakeup.clear()

    def close(self) -> None:
        """Release the wake-up descriptor."""
        self._wakeup.close()
