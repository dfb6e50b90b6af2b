"""The way out to one peer: a DEALER that greets first on every connection and never keeps a stale message."""

from __future__ import annotations

from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from raftactors.config import Limits
from raftactors.transport.options import connect, open_socket, peer_link_options
from raftactors.transport.sending import send_now

_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class PeerLink:
    """Connects to `address` for ever and sends to whoever answers there, `hello_frame` first.

    `monitor` becomes readable when a connection comes or goes; call `observe` then.
    """

    def __init__(
        self, context: zmq.Context[Any], *, peer_id: int, address: str, hello_frame: bytes, limits: Limits
    ) -> None:
        self.peer_id = peer_id
        self._hello_frame = hello_frame
        self._up = False
        self._hello_due = False
        self._socket = open_socket(context, zmq.DEALER, peer_link_options(limits))
        self.monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(_WATCHED)
        self.monitor.setsockopt(zmq.LINGER, 0)
        try:
            connect(self._socket, f"peer_address of node {peer_id}", address)
        except BaseException:
            self.monitor.close()
            raise

    @property
    def ready(self) -> bool:
        """Whether a connection exists on which our HELLO has been sent."""
        return self._up and not self._hello_due

    def observe(self) -> None:
        """Take in what happened to the connection since the last call, and greet where that is due."""
        while int(self.monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = parse_monitor_message(self.monitor.recv_multipart(zmq.DONTWAIT))["event"]
            self._up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._hello_due = self._up
        if self._hello_due:
            self._hello_due = not send_now(self._socket, (self._hello_frame,))

    def greet_again(self) -> None:
        """Send HELLO once more, because the peer asked for it; without a connection it goes out on the next one."""
        self._hello_due = self._up
        self.observe()

    def send(self, frame: bytes) -> bool:
        """Hand one frame to the connection; False if there is none, or it takes no more. Never waits."""
        self.observe()
        return self.ready and send_now(self._socket, (frame,))

    def close(self) -> None:
        """Drop what is unsent and release both sockets; a second call does nothing."""
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self.monitor.close()
        self._socket.close()
