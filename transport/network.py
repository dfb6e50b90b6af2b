"""All sockets between this node and the other members, driven from one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import zmq

from raftactors.codec.raft import (
    BODY_OVERHEAD_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    MESSAGES_MAX,
    decode_messages,
    encode_message,
    join_messages,
)
from raftactors.config import NodeConfig
from raftactors.core.messages import Message
from raftactors.errors import WireError
from raftactors.transport.dealer import PeerLink
from raftactors.transport.envelope import (
    ENVELOPE_BYTES,
    PEER_MAGIC,
    Envelope,
    EnvelopeGate,
    PeerKind,
    encode_envelope,
)
from raftactors.transport.hello import Hello, encode_hello
from raftactors.transport.router import PeerListener
from raftactors.transport.wakeup import Wakeup


class PeerTransport(Protocol):
    """What moves Raft messages between members: the sockets of `PeerNetwork`, or the fake of `memory`."""

    def sockets(self) -> Sequence[zmq.Socket[bytes] | Wakeup]:
        """What to poll for input; call `receive` when any of them is readable."""
        ...

    def receive(self, limit: int) -> list[Message]:
        """Messages that have arrived and passed all checks, out of at most `limit` frames. Never waits."""
        ...

    def send(self, messages: Sequence[Message]) -> list[int]:
        """Send each message to the member it names; returns the ids of those that could not be given all of theirs."""
        ...

    def connected(self) -> set[int]:
        """Members with a connection in each direction that has been greeted on."""
        ...

    @property
    def drops(self) -> dict[str, int]:
        """How many frames and messages were dropped, by reason; a copy."""
        ...

    def close(self) -> None:
        """Drop what is unsent and release everything, at once."""
        ...


class PeerNetwork:
    """One ROUTER for what comes in, one DEALER a member for what goes out. Messages are one-way and may be lost.

    `incarnation` must be larger at each start of the node: members drop what an older process of the same id sends.
    Every method belongs to the thread that polls.
    """

    def __init__(self, config: NodeConfig, incarnation: int, *, context: zmq.Context[Any]) -> None:
        """Bind at once. Raises AddressInUseError or ConfigError naming the address."""
        limits = config.limits
        others = [member for member in config.members if member.node_id != config.node_id]
        self._body_bytes_max = limits.peer_frame_bytes_max - ENVELOPE_BYTES
        self._origin = (config.cluster_id, config.node_id, incarnation)
        self._gate = EnvelopeGate(
            cluster_id=config.cluster_id,
            node_id=config.node_id,
            peers=[member.node_id for member in others],
            kinds=(PeerKind.HELLO, PeerKind.HELLO_WANTED, PeerKind.RAFT),
            body_bytes_max=self._body_bytes_max,
        )
        self._listener = PeerListener(
            context,
            name="listen_peer_address" if config.listen_peer_address else "peer_address",
            address=config.listen_peer_address or config.me.peer_address,
            gate=self._gate,
            limits=limits,
        )
        self._links: dict[int, PeerLink] = {}
        try:
            for member in others:
                self._links[member.node_id] = PeerLink(
                    context,
                    peer_id=member.node_id,
                    address=member.peer_address,
                    hello_frame=self._frame(PeerKind.HELLO, member.node_id, encode_hello(Hello())),
                    limits=limits,
                )
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """The address bound, `host:port`."""
        return self._listener.address

    @property
    def drops(self) -> dict[str, int]:
        """How many frames and messages were dropped, by reason; those of the way out start with `outbound_`."""
        return dict(self._gate.drops)

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """The inbound socket and the monitors of the outbound ones; all are only ever polled for input."""
        return [self._listener.socket, *(link.monitor for link in self._links.values())]

    def receive(self, limit: int) -> list[Message]:
        """Take at most `limit` frames, or RECEIVE_BYTES_MAX of them, and see to greetings. Never waits."""
        arrivals = self._listener.receive(limit)
        for link in self._links.values():
            link.observe()
        for peer_id in arrivals.asking:
            self._links[peer_id].greet_again()
        for peer_id in arrivals.ungreeted:
            self._links[peer_id].send(self._frame(PeerKind.HELLO_WANTED, peer_id, b""))
        messages: list[Message] = []
        for envelope, body in arrivals.frames:
            try:
                messages += decode_messages(body, to=envelope.to, sender=envelope.sender)
            except WireError as error:
                self._gate.drops[error.reason] += 1
        return messages

    def send(self, messages: Sequence[Message]) -> list[int]:
        """Send all messages of one member in one frame, or in as few as `peer_frame_bytes_max` allows. Never waits.

        Returns the ids to report unreachable: no such member, no connection, a full queue, or a message that does not
        travel here (a snapshot, one that exceeds a frame), which `drops` counts.
        """
        batches: dict[int, list[Message]] = {}
        for message in messages:
            batches.setdefault(message.to, []).append(message)
        return [peer_id for peer_id, batch in batches.items() if not self._send_batch(peer_id, batch)]

    def connected(self) -> set[int]:
        """Members that we have greeted on a living connection and that have greeted us."""
        for link in self._links.values():
            link.observe()
        return {peer_id for peer_id in self._listener.greeted if self._links[peer_id].ready}

    def close(self) -> None:
        """Drop what is unsent and release all sockets; the context stays the caller's."""
        for link in self._links.values():
            link.close()
        self._listener.close()

    def _send_batch(self, peer_id: int, batch: list[Message]) -> bool:
        link = self._links.get(peer_id)
        if link is None:
            self._gate.drops["outbound_to"] += len(batch)
            return False
        link.observe()
        if not link.ready:
            return False
        complete = True
        bodies: list[tuple[int, bytes]] = []
        size = BODY_OVERHEAD_BYTES
        for message in batch:
            try:
                body = self._encode(message)
            except WireError as error:
                self._gate.drops[f"outbound_{error.reason}"] += 1
                complete = False
                continue
            cost = len(body) + MESSAGE_OVERHEAD_BYTES
            if bodies and (size + cost > self._body_bytes_max or len(bodies) == MESSAGES_MAX):
                if not self._send_bodies(link, bodies):
                    return False
                bodies, size = [], BODY_OVERHEAD_BYTES
            bodies.append((message.type, body))
            size += cost
        return (not bodies or self._send_bodies(link, bodies)) and complete

    def _encode(self, message: Message) -> bytes:
        body = encode_message(message)
        if len(body) + MESSAGE_OVERHEAD_BYTES + BODY_OVERHEAD_BYTES > self._body_bytes_max:
            raise WireError("oversize", f"{len(body)} bytes of {message.type.name}")
        return body

    def _send_bodies(self, link: PeerLink, bodies: list[tuple[int, bytes]]) -> bool:
        return link.send(self._frame(PeerKind.RAFT, link.peer_id, join_messages(bodies)))

    def _frame(self, kind: PeerKind, to: int, body: bytes) -> bytes:
        cluster_id, node_id, incarnation = self._origin
        return encode_envelope(PEER_MAGIC, Envelope(kind, cluster_id, to, node_id, incarnation), body)
