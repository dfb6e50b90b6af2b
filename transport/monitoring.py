"""The events of a socket's connections, as libzmq tells them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

_names = itertools.count()
_READABLE = int(zmq.POLLIN)


class ConnectionEvent(NamedTuple):
    """What happened (`zmq.EVENT_...`), and to which descriptor; 0 where libzmq tells none."""

    kind: int
    descriptor: int


class EventStream:
    """The events of `kinds` of one socket, from the moment of construction on.

    libzmq writes an event from its own thread and waits there while the queue is full, with every connection of the
    process behind it. So the queue has no limit; whoever owns the stream reads it whenever it is readable.
    """

    def __init__(self, context: zmq.Context[Any], watched: zmq.Socket[bytes], kinds: int) -> None:
        self._watched = watched
        address = f"inproc://raftactors-events-{next(_names)}"
        watched.monitor(address, kinds)
        self.socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.connect(address)

    def waits(self) -> bool:
        """Whether there are events to take; asked before each send, so it makes no object."""
        return bool(int(self.socket.getsockopt(zmq.EVENTS)) & _READABLE)

    def take(self) -> Iterator[ConnectionEvent]:
        """The events so far, in their order. Never waits."""
        while self.waits():
            event = parse_monitor_message(self.socket.recv_multipart(zmq.DONTWAIT))
            yield ConnectionEvent(int(event["event"]), int(event["value"]))

    def close(self) -> None:
        """Stop the events and release the socket; the watched socket must still be open."""
        self._watched.disable_monitor()
        self.socket.close()
