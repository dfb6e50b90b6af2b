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
from raftactors.transport.connections import ConnectionAccount
from raftactors.transport.envelope import PeerKind
from raftactors.transport.links import LinkPlan, MemberLinks
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
        """Members with a connection in each direction that have proved themselves and are not silent."""
        ...

    def tend(self) -> None:
        """See to silent members and to those who must hear that this one lives; called every tick."""
        ...

    @property
    def drops(self) -> dict[str, int]:
        """How many frames and messages were dropped, by reason; a copy."""
        ...

    def close(self) -> None:
        """Drop what is unsent and release everything, at once."""
        ...


class PeerNetwork:
    """The links for Raft messages: one-way, and they may be lost.

    `incarnation` must be larger at each start of the node: members drop what an older process of the same id sends.
    Every method belongs to the thread that polls.
    """

    def __init__(self, config: NodeConfig, incarnation: int, *, context: zmq.Context[Any]) -> None:
        """Bind at once. Raises AddressInUseError or ConfigError naming the address."""
        others = [member for member in config.members if member.node_id != config.node_id]
        plan = LinkPlan(
            cluster_id=config.cluster_id,
            node_id=config.node_id,
            incarnation=incarnation,
            listen_name="listen_peer_address" if config.listen_peer_address else "peer_address",
            listen_address=config.listen_peer_address or config.me.peer_address,
            addresses={member.node_id: member.peer_address for member in others},
            limits=config.limits,
        )
        self._links = MemberLinks(plan, PeerKind.RAFT, context=context)

    @property
    def address(self) -> str:
        """The address bound, `host:port`."""
        return self._links.address

    @property
    def account(self) -> ConnectionAccount:
        """The connections of the listener, for the guard."""
        return self._links.account

    @property
    def drops(self) -> dict[str, int]:
        """How many frames and messages were dropped, by reason; those of the way out start with `outbound_`."""
        return dict(self._links.gate.drops)

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What to poll for input; call `receive` when any of them is readable."""
        return self._links.sockets()

    def receive(self, limit: int) -> list[Message]:
        """The messages of at most `limit` frames that have arrived. Never waits.

        Raises DataLostError when a member has known a later incarnation of this node than this one.
        """
        messages: list[Message] = []
        for envelope, body in self._links.receive(limit):
            try:
                messages += decode_messages(body, to=envelope.to, sender=envelope.sender)
            except WireError as error:
                self._links.gate.drops[error.reason] += 1
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
        """Members that we have greeted on a living connection and that have proved themselves to us."""
        return self._links.connected()

    def tend(self) -> None:
        """Send the beats that are due and give silent members up."""
        self._links.tend()

    def close(self) -> None:
        """Drop what is unsent and release all sockets; the context stays the caller's."""
        self._links.close()

    def _send_batch(self, peer_id: int, batch: list[Message]) -> bool:
        links = self._links
        if not links.is_linked(peer_id):
            links.gate.drops["outbound_to"] += len(batch)
            return False
        if not links.is_ready(peer_id):
            return False
        complete = True
        bodies: list[tuple[int, bytes]] = []
        size = BODY_OVERHEAD_BYTES
        for message in batch:
            try:
                body = self._encode(message)
            except WireError as error:
                links.gate.drops[f"outbound_{error.reason}"] += 1
                complete = False
                continue
            cost = len(body) + MESSAGE_OVERHEAD_BYTES
            if bodies and (size + cost > links.body_bytes_max or len(bodies) == MESSAGES_MAX):
                if not links.send(peer_id, join_messages(bodies)):
                    return False
                bodies, size = [], BODY_OVERHEAD_BYTES
            bodies.append((message.type, body))
            size += cost
        return (not bodies or links.send(peer_id, join_messages(bodies))) and complete

    def _encode(self, message: Message) -> bytes:
        body = encode_message(message)
        if len(body) + MESSAGE_OVERHEAD_BYTES + BODY_OVERHEAD_BYTES > self._links.body_bytes_max:
            raise WireError("oversize", f"{len(body)} bytes of {message.type.name}")
        return body
