"""The way in from all peers: one bound ROUTER that passes on nothing from a connection that has not greeted."""

from __future__ import annotations

from typing import Any, NamedTuple

import zmq

from raftactors.config import Limits
from raftactors.errors import WireError
from raftactors.transport.envelope import Envelope, EnvelopeGate, PeerKind
from raftactors.transport.hello import decode_hello
from raftactors.transport.options import bind, open_socket, peer_listener_options

RECEIVE_BYTES_MAX = 8 * 1024 * 1024
"""How many bytes one call takes off the socket before it stops, so that a batch has a bound in memory and time."""


class Arrivals(NamedTuple):
    """What one call of `PeerListener.receive` brought.

    `frames` are Raft frames. `ungreeted` are members whose frames were dropped because their HELLO is missing;
    `asking` are members that miss ours.
    """

    frames: list[tuple[Envelope, memoryview]]
    ungreeted: set[int]
    asking: set[int]


class PeerListener:
    """Takes frames of the other members; whatever fails a check is counted in the gate's `drops` and forgotten.

    ZeroMQ gives every connection a routing id of its own. A member has at most one connection that counts, the one of
    its last HELLO; nothing is ever sent to a routing id.
    """

    def __init__(
        self, context: zmq.Context[Any], *, name: str, address: str, gate: EnvelopeGate, limits: Limits
    ) -> None:
        self._gate = gate
        self._members_by_route: dict[bytes, int] = {}
        self._routes_by_member: dict[int, bytes] = {}
        self.socket = open_socket(context, zmq.ROUTER, peer_listener_options(limits))
        self.address = bind(self.socket, name, address)

    @property
    def greeted(self) -> set[int]:
        """Members that have sent a HELLO since this listener was made."""
        return set(self._routes_by_member)

    def receive(self, limit: int) -> Arrivals:
        """Take at most `limit` frames that have arrived, fewer once RECEIVE_BYTES_MAX is reached. Never waits."""
        arrivals = Arrivals([], set(), set())
        taken_bytes = 0
        for _ in range(limit):
            if taken_bytes >= RECEIVE_BYTES_MAX:
                break
            try:
                parts = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            taken_bytes += sum(map(len, parts))
            try:
                self._accept(parts, arrivals)
            except WireError as error:
                self._gate.drops[error.reason] += 1
        arrivals.ungreeted.update(self._gate.take_ungreeted())
        return arrivals

    def close(self) -> None:
        """Release the socket."""
        self.socket.close()

    def _accept(self, parts: list[bytes], arrivals: Arrivals) -> None:
        if len(parts) != 2:
            raise WireError("parts", f"{len(parts) - 1} parts behind the routing id instead of one")
        route, frame = parts
        envelope, body = self._gate.check(frame)
        if envelope.kind == PeerKind.HELLO:
            decode_hello(body)
            self._greet(route, envelope)
        elif envelope.kind == PeerKind.HELLO_WANTED:
            # Answered before a HELLO as well: two nodes that miss each other's would otherwise wait for ever.
            arrivals.asking.add(envelope.sender)
        elif self._members_by_route.get(route) == envelope.sender:
            arrivals.frames.append((envelope, body))
        else:
            arrivals.ungreeted.add(envelope.sender)
            raise WireError("hello_missing", f"node {envelope.sender} has not greeted on this connection")

    def _greet(self, route: bytes, envelope: Envelope) -> None:
        self._gate.greet(envelope.sender, envelope.incarnation)
        former_route = self._routes_by_member.pop(envelope.sender, None)
        if former_route is not None:
            del self._members_by_route[former_route]
        former_member = self._members_by_route.pop(route, None)
        if former_member is not None:
            del self._routes_by_member[former_member]
        self._members_by_route[route] = envelope.sender
        self._routes_by_member[envelope.sender] = route
