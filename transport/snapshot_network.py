"""The sockets on which snapshots move, apart from those of Raft, so that no heartbeat ever waits behind a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import zmq

from raftactors.config import NodeConfig
from raftactors.transport.dealer import PeerLink
from raftactors.transport.envelope import (
    ENVELOPE_BYTES,
    SNAPSHOT_MAGIC,
    Envelope,
    PeerKind,
    SnapshotGate,
    encode_envelope,
)
from raftactors.transport.hello import Hello, encode_hello
from raftactors.transport.router import PeerListener
from raftactors.transport.wakeup import Wakeup


class SnapshotTransport(Protocol):
    """What moves the frames of snapshot transfers between members. They may be lost, and keep their order."""

    def sockets(self) -> Sequence[zmq.Socket[bytes] | Wakeup]:
        """What to poll for input; call `receive` when any of them is readable."""
        ...

    def receive(self, limit: int) -> list[tuple[int, memoryview]]:
        """(sender, body) of the frames that have arrived and passed all checks, at most `limit`. Never waits."""
        ...

    def send(self, to: int, body: bytes) -> bool:
        """Hand one frame to the connection to a member; False if there is none, or it takes no more. Never waits."""
        ...

    @property
    def drops(self) -> dict[str, int]:
        """How many frames were dropped, by reason; a copy."""
        ...

    def close(self) -> None:
        """Drop what is unsent and release everything, at once."""
        ...


class SnapshotNetwork:
    """One ROUTER for what comes in, one DEALER for each member that names a snapshot address, as in `PeerNetwork`.

    Every method belongs to the thread that polls.
    """

    def __init__(self, config: NodeConfig, incarnation: int, *, context: zmq.Context[Any]) -> None:
        """Bind at once. Raises AddressInUseError or ConfigError naming the address."""
        limits = config.limits
        others = [member for member in config.members if member.node_id != config.node_id and member.snapshot_address]
        self._origin = (config.cluster_id, config.node_id, incarnation)
        self._gate = SnapshotGate(
            cluster_id=config.cluster_id,
            node_id=config.node_id,
            peers=[member.node_id for member in others],
            kinds=(PeerKind.HELLO, PeerKind.HELLO_WANTED, PeerKind.SNAPSHOT),
            body_bytes_max=limits.peer_frame_bytes_max - ENVELOPE_BYTES,
        )
        self._listener = PeerListener(
            context,
            name="listen_snapshot_address" if config.listen_snapshot_address else "snapshot_address",
            address=config.listen_snapshot_address or config.me.snapshot_address,
            gate=self._gate,
            limits=limits,
        )
        self._links: dict[int, PeerLink] = {}
        try:
            for member in others:
                self._links[member.node_id] = PeerLink(
                    context,
                    peer_id=member.node_id,
                    address=member.snapshot_address,
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
        """How many frames were dropped, by reason; a copy."""
        return dict(self._gate.drops)

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """The inbound socket and the monitors of the outbound ones; all are only ever polled for input."""
        return [self._listener.socket, *(link.monitor for link in self._links.values())]

    def receive(self, limit: int) -> list[tuple[int, memoryview]]:
        """Take at most `limit` frames and see to greetings. Never waits."""
        arrivals = self._listener.receive(limit)
        for link in self._links.values():
            link.observe()
        for peer_id in arrivals.asking:
            self._links[peer_id].greet_again()
        for peer_id in arrivals.ungreeted:
            self._links[peer_id].send(self._frame(PeerKind.HELLO_WANTED, peer_id, b""))
        return [(envelope.sender, body) for envelope, body in arrivals.frames]

    def send(self, to: int, body: bytes) -> bool:
        """Send one frame; False without a connection, with a full queue, or to a member that has no such socket."""
        link = self._links.get(to)
        return link is not None and link.send(self._frame(PeerKind.SNAPSHOT, to, body))

    def close(self) -> None:
        """Drop what is unsent and release all sockets; the context stays the caller's."""
        for link in self._links.values():
            link.close()
        self._listener.close()

    def _frame(self, kind: PeerKind, to: int, body: bytes) -> bytes:
        cluster_id, node_id, incarnation = self._origin
        return encode_envelope(SNAPSHOT_MAGIC, Envelope(kind, cluster_id, to, node_id, incarnation), body)
