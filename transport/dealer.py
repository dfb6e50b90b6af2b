"""The way out to one peer: a DEALER that greets first on every connection and never keeps a stale message."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import zmq

from raftactors.config import Limits
from raftactors.transport.monitoring import EventStream
from raftactors.transport.options import connect, open_socket, peer_link_options
from raftactors.transport.sending import send_now

_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED

HELLO_PAUSE_S = 0.02
"""Between two HELLOs on one connection at least, however often they are asked for."""


class PeerLink:
    """Connects to `address` for ever and sends to whoever answers there, a HELLO first.

    `hello` makes one from the answer to the peer's challenge, 0 before the peer has sent it. The peer takes nothing
    else before it has that answer, so the link is ready only then. `monitor` becomes readable when a connection comes
    or goes; call `observe` then. `renew` replaces it.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        *,
        peer_id: int,
        address: str,
        hello: Callable[[int], bytes],
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peer_id = peer_id
        self._context = context
        self._address = address
        self._hello = hello
        self._limits = limits
        self._clock = clock
        self._up = False
        self._answer = 0
        self._hello_due = False
        self._proved = False
        self._greeted_s: float | None = None
        self._sent_s = 0.0
        self._socket, self._events = self._open()

    @property
    def monitor(self) -> zmq.Socket[bytes]:
        """What to poll for input."""
        return self._events.socket

    @property
    def ready(self) -> bool:
        """Whether a connection exists on which our HELLO has been sent with the peer's challenge."""
        return self._proved

    @property
    def sent_s(self) -> float:
        """When the last frame was sent, by the link's clock; 0 before the first."""
        return self._sent_s

    def observe(self) -> None:
        """Take in what happened to the connection since the last call, and greet where that is due."""
        if self._events.waits():
            for event in self._events.take():
                # Another connection may lead to another process, which has a challenge of its own.
                self._reset(up=event.kind == zmq.EVENT_HANDSHAKE_SUCCEEDED)
        if self._hello_due:
            now_s = self._clock()
            if self._greeted_s is not None and now_s - self._greeted_s < HELLO_PAUSE_S:
                return
            if send_now(self._socket, (self._hello(self._answer),)):
                self._greeted_s = self._sent_s = now_s
                self._hello_due, self._proved = False, bool(self._answer)

    def answer(self, challenge: int) -> None:
        """Greet with the peer's challenge, because it asked for that; forgotten if there is no connection now."""
        self.observe()
        if self._up:
            self._answer, self._hello_due = challenge, True
            self.observe()

    def send(self, frame: bytes) -> bool:
        """Hand one frame to the connection; False if it is not ready, or takes no more. Never waits."""
        self.observe()
        return self._proved and self._hand_over(frame)

    def challenge(self, frame: bytes) -> bool:
        """Hand over a frame that needs no proof; False if there is no connection, or it takes no more."""
        self.observe()
        return self._greeted_s is not None and self._hand_over(frame)

    def renew(self) -> None:
        """Give the connection up, with what it has not sent, and begin with a new one."""
        self.close()
        self._reset(up=False)
        self._socket, self._events = self._open()

    def close(self) -> None:
        """Drop what is unsent and release both sockets; a second call does nothing."""
        if self._socket.closed:
            return
        self._events.close()
        self._socket.close()

    def _hand_over(self, frame: bytes) -> bool:
        if not send_now(self._socket, (frame,)):
            return False
        self._sent_s = self._clock()
        return True

    def _reset(self, *, up: bool) -> None:
        self._up = self._hello_due = up
        self._answer, self._proved, self._greeted_s = 0, False, None

    def _open(self) -> tuple[zmq.Socket[bytes], EventStream]:
        socket = open_socket(self._context, zmq.DEALER, peer_link_options(self._limits))
        events = EventStream(self._context, socket, _WATCHED)
        try:
            connect(socket, f"peer_address of node {self.peer_id}", self._address)
        except BaseException:
            events.close()
            socket.close()
            raise
        return socket, events
