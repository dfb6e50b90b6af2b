"""The way in from all members: one bound ROUTER that passes on nothing before the sender has proved who it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from raftactors.errors import WireError
from raftactors.transport.connections import Connection
from raftactors.transport.envelope import Envelope, EnvelopeGate, PeerKind
from raftactors.transport.hello import decode_hello, decode_hello_wanted, new_challenge
from raftactors.transport.listener import Arrival, Listener

RECEIVE_BYTES_MAX = 8 * 1024 * 1024
"""How many bytes one call takes off the socket before it stops, so that a batch has a bound in memory and time."""

WINDOW_BYTES = 4 * 1024 * 1024
"""What a member may have under way on a connection, as far as the system allows (net.core.rmem_max)."""


class Arrivals(NamedTuple):
    """What one call of `PeerListener.receive` brought.

    `frames` are frames of confirmed members, and `heard` these members. `unproven` are members in whose name frames or
    a HELLO without our challenge came; `asking` are those that miss our HELLO, with the challenge they want back.
    `recalled` is the largest incarnation of this node that a confirmed member has known.
    """

    frames: list[tuple[Envelope, memoryview]]
    heard: set[int]
    unproven: set[int]
    asking: dict[int, int]
    recalled: dict[int, int]


class PeerListener:
    """Takes frames of the other members; whatever fails a check is counted in the gate's `drops` and forgotten.

    A member has at most one connection that counts, the one of its last confirmed HELLO; nothing is ever sent on it.
    """

    def __init__(self, listener: Listener, gate: EnvelopeGate, members: Mapping[int, object]) -> None:
        self.listener = listener
        self.challenges = {member: new_challenge() for member in members}
        self._gate = gate
        self._members: dict[Connection, int] = {}
        self._connections: dict[int, Connection] = {}

    @property
    def confirmed(self) -> set[int]:
        """Members that have proved themselves on a connection that counts."""
        return set(self._connections)

    def receive(self, limit: int) -> Arrivals:
        """Take at most `limit` frames that have arrived, fewer once RECEIVE_BYTES_MAX is reached. Never waits."""
        arrivals = Arrivals([], set(), set(), {}, {})
        taken_bytes = 0
        for _ in range(limit):
            if taken_bytes >= RECEIVE_BYTES_MAX:
                break
            try:
                arrival = self.listener.take()
                if arrival is None:
                    break
                taken_bytes += len(arrival.frame)
                self._accept(arrival, arrivals)
            except WireError as error:
                self._gate.drops[error.reason] += 1
        arrivals.unproven.update(self._gate.take_ungreeted())
        return arrivals

    def forget(self, member: int) -> None:
        """End the connection of a member; it has to prove itself again."""
        connection = self._connections.pop(member, None)
        if connection is not None:
            del self._members[connection]
            connection.cut()

    def close(self) -> None:
        """Release the socket."""
        self.listener.close()

    def _accept(self, arrival: Arrival, arrivals: Arrivals) -> None:
        envelope, body = self._gate.check(arrival.frame)
        sender = envelope.sender
        if envelope.kind == PeerKind.HELLO:
            hello = decode_hello(body)
            if hello.answer != self.challenges[sender]:
                arrivals.unproven.add(sender)
                return
            self._confirm(arrival.connection, envelope)
            arrivals.recalled[sender] = hello.known_incarnation
        elif envelope.kind == PeerKind.HELLO_WANTED:
            # Answered whoever asks: the answer goes to the member's own address, where nobody else can use it.
            arrivals.asking[sender] = decode_hello_wanted(body)
            return
        elif self._members.get(arrival.connection) != sender:
            arrivals.unproven.add(sender)
            raise WireError("hello_missing", f"node {sender} has not greeted on this connection")
        elif envelope.kind != PeerKind.BEAT:
            arrivals.frames.append((envelope, body))
        arrivals.heard.add(sender)

    def _confirm(self, connection: Connection, envelope: Envelope) -> None:
        self._gate.confirm(envelope.sender, envelope.incarnation)
        if self._members.get(connection) == envelope.sender:
            return
        self.forget(envelope.sender)
        claimed = self._members.pop(connection, None)
        if claimed is not None:
            del self._connections[claimed]
        self._members[connection] = envelope.sender
        self._connections[envelope.sender] = connection
        connection.welcome(WINDOW_BYTES)
        connection.trusted = True
