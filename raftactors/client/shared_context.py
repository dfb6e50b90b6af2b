"""The one ZeroMQ context of all clients of a process: made for the first of them, ended with the last."""

from __future__ import annotations

import os
import threading
from typing import Any

import zmq

from raftactors.client.descriptors import CONTEXT_DESCRIPTORS, USED_UP, shortage
from raftactors.errors import DescriptorsUsedUpError

SOCKETS_MAX = 16_384
"""Connections of all clients of a process together; a client has one for each node that it talks to."""


class SharedContext:
    """Counts its users. A forked child begins with none, and leaves what its parent made alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: zmq.Context[Any] | None = None
        self._users = 0
        self._inherited: list[zmq.Context[Any] | None] = []
        os.register_at_fork(after_in_child=self._begin_anew)

    def acquire(self) -> zmq.Context[Any]:
        """The context, for one user more. Raises DescriptorsUsedUpError."""
        with self._lock:
            if self._context is None:
                self._context = _make()
            self._users += 1
            return self._context

    def release(self) -> None:
        """One user has closed its sockets; the last one ends the context, and gives its descriptors back."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            context, self._context = self._context, None
        assert context is not None
        context.term()

    def _begin_anew(self) -> None:
        # Another thread of the parent may have held the lock. Collecting the context would complain about it.
        self._inherited.append(self._context)
        self._lock = threading.Lock()
        self._context, self._users = None, 0


def check_descriptors() -> None:
    """Raise DescriptorsUsedUpError unless a context can be started.

    libzmq starts the threads of a context with its first socket, and aborts the process if they find no descriptor.
    """
    lacking = shortage(CONTEXT_DESCRIPTORS)
    if lacking:
        raise DescriptorsUsedUpError(f"a client cannot be made: {lacking}")


def _make() -> zmq.Context[Any]:
    check_descriptors()
    context: zmq.Context[Any] = zmq.Context(io_threads=1)
    try:
        context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
        context.socket(zmq.DEALER).close()
    except zmq.ZMQError as error:
        context.term()
        if error.errno not in USED_UP:
            raise
        raise DescriptorsUsedUpError(f"a client cannot be made: {shortage(CONTEXT_DESCRIPTORS) or error}") from error
    return context


shared_context = SharedContext()
"""The context of every client that was not given one."""
