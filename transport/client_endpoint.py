"""The sockets between a node and its clients, one class for each side."""

from __future__ import annotations

from typing import Any

import zmq

from raftactors.codec.frames import FrameKind
from raftactors.config import Limits, NodeConfig
from raftactors.errors import WireError
from raftactors.transport.allowance import client_allowance
from raftactors.transport.connections import ConnectionAccount, wire_bytes
from raftactors.transport.envelope import (
    CLIENT_MAGIC,
    ENVELOPE_BYTES,
    ClientGate,
    Envelope,
    NodeGate,
    encode_envelope,
)
from raftactors.transport.listener import Listener
from raftactors.transport.options import client_endpoint_options, client_socket_options, connect, open_socket
from raftactors.transport.sending import send_now

WINDOW_BYTES = 64 * 1024
"""What a client may have under way to a node."""

NODE_KINDS = frozenset({FrameKind.WELCOME, FrameKind.REPLIES})
"""What a node sends to clients."""

CLIENT_KINDS = frozenset(FrameKind) - NODE_KINDS
"""What clients send to a node."""


class ClientEndpoint:
    """The bound ROUTER of a node's gateway. Every method belongs to one thread.

    `drops` counts frames that were not accepted or, with `outbound_` in front, not sent, by reason.
    """

    def __init__(self, config: NodeConfig, incarnation: int, context: zmq.Context[Any]) -> None:
        """Bind at once. Raises AddressInUseError or ConfigError naming the address."""
        self.body_bytes_max = config.limits.client_frame_bytes_max - ENVELOPE_BYTES
        self._origin = (config.cluster_id, config.node_id, incarnation)
        self._gate = NodeGate(
            cluster_id=config.cluster_id,
            node_id=config.node_id,
            greeting_kind=FrameKind.HELLO,
            kinds=CLIENT_KINDS,
            body_bytes_max=self.body_bytes_max,
        )
        self._listener = Listener(
            context,
            name="listen_client_address" if config.listen_client_address else "client_address",
            address=config.listen_client_address or config.me.client_address,
            options=client_endpoint_options(config.limits),
            allowance=client_allowance(config.limits),
        )
        self.socket = self._listener.socket
        self.address = self._listener.address

    @property
    def account(self) -> ConnectionAccount:
        """The connections of the listener, for the guard."""
        return self._listener.account

    @property
    def drops(self) -> dict[str, int]:
        """How many frames were dropped, by reason; a copy."""
        return dict(self._gate.drops)

    def receive(self, limit: int) -> list[tuple[bytes, Envelope, memoryview]]:
        """Take at most `limit` frames: routing id of the connection, header, body. Never waits.

        A routing id is made by this socket for each connection, and is forgotten with it.
        """
        arrived = []
        for _ in range(limit):
            try:
                arrival = self._listener.take()
                if arrival is None:
                    break
                arrived.append((arrival.connection.route, *self._gate.check(arrival.frame)))
                arrival.connection.welcome(WINDOW_BYTES)
            except WireError as error:
                self._gate.drops[error.reason] += 1
        return arrived

    def unread_bytes(self, routing_id: bytes) -> int:
        """Bytes that were sent to a client and that its kernel does not have yet; 0 for one that is gone."""
        connection = self._listener.account.find(routing_id)
        return 0 if connection is None else connection.unread_bytes()

    def cut(self, routing_id: bytes) -> None:
        """End the connection of a client; it may connect again."""
        connection = self._listener.account.find(routing_id)
        if connection is not None:
            connection.cut()

    def send(self, routing_id: bytes, kind: int, body: bytes) -> bool:
        """Send one frame to a client; False when it is gone, takes no more, or the body exceeds `body_bytes_max`."""
        if len(body) > self.body_bytes_max:
            self._gate.drops["outbound_oversize"] += 1
            return False
        cluster_id, node_id, incarnation = self._origin
        frame = encode_envelope(CLIENT_MAGIC, Envelope(kind, cluster_id, 0, node_id, incarnation), body)
        try:
            if send_now(self.socket, (routing_id, frame)):
                connection = self._listener.account.find(routing_id)
                if connection is not None:
                    connection.handed_bytes += wire_bytes(len(frame))
                return True
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._gate.drops["outbound_gone"] += 1
            return False
        self._gate.drops["outbound_full"] += 1
        return False

    def close(self) -> None:
        """Drop what is unsent and release the socket."""
        self._listener.close()


class ClientSocket:
    """A client's connection to the node at `address`, made again by itself whenever it breaks.

    The first WELCOME pins the cluster id (`cluster_id` 0: any cluster), and frames of another cluster are dropped. A
    node that was restarted is a new incarnation and is not listened to before it has sent a WELCOME again.
    """

    def __init__(
        self, address: str, *, context: zmq.Context[Any], cluster_id: int = 0, limits: Limits | None = None
    ) -> None:
        """Start connecting. Raises ConfigError for an address that is not HOST:PORT."""
        limits = limits or Limits()
        self._queue_messages = limits.client_queue_messages
        self.body_bytes_max = limits.client_frame_bytes_max - ENVELOPE_BYTES
        self._gate = ClientGate(
            cluster_id=cluster_id,
            welcome_kind=FrameKind.WELCOME,
            kinds=NODE_KINDS,
            body_bytes_max=self.body_bytes_max,
        )
        self.socket = open_socket(context, zmq.DEALER, client_socket_options(limits))
        try:
            connect(self.socket, "address", address)
        except BaseException:
            self.socket.close()
            raise

    @property
    def cluster_id(self) -> int:
        """The cluster asked for or pinned, 0 while neither."""
        return self._gate.cluster_id

    @property
    def drops(self) -> dict[str, int]:
        """How many frames were dropped, by reason; a copy."""
        return dict(self._gate.drops)

    def send(self, kind: int, body: bytes) -> bool:
        """Send one frame; False while there is no connection, or it takes no more. Never waits.

        Raises WireError for a body that exceeds `body_bytes_max`: it could never be sent.
        """
        if len(body) > self.body_bytes_max:
            raise WireError("body_oversize", f"{len(body)} bytes, at most {self.body_bytes_max}")
        frame = encode_envelope(CLIENT_MAGIC, Envelope(kind, self._gate.cluster_id, 0, 0, 0), body)
        return send_now(self.socket, (frame,))

    def receive(self) -> list[tuple[Envelope, memoryview]]:
        """Take the frames that have arrived, at most as many as the queue holds. Never waits."""
        arrived = []
        for _ in range(self._queue_messages):
            try:
                parts = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            if len(parts) != 1:
                self._gate.drops["parts"] += 1
                continue
            admitted = self._gate.admit(parts[0])
            if admitted is not None:
                if admitted[0].kind == FrameKind.WELCOME:
                    self._gate.welcome(admitted[0])
                arrived.append(admitted)
        return arrived

    def close(self) -> None:
        """Drop what is unsent and release the socket."""
        self.socket.close()
