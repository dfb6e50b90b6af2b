"""The sockets on which snapshots move, apart from those of Raft, so that no heartbeat ever waits behind a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import zmq

from raftactors.config import NodeConfig
from raftactors.transport.connections import ConnectionAccount
from raftactors.transport.envelope import PeerKind, SnapshotGate
from raftactors.transport.links import LinkPlan, MemberLinks
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

    def tend(self) -> None:
        """See to silent members and to those who must hear that this one lives; called every tick."""
        ...

    @property
    def drops(self) -> dict[str, int]:
        """How many frames were dropped, by reason; a copy."""
        ...

    def close(self) -> None:
        """Drop what is unsent and release everything, at once."""
        ...


class SnapshotNetwork:
    """The links to the members that name a snapshot address. Every method belongs to the thread that polls."""

    def __init__(self, config: NodeConfig, incarnation: int, *, context: zmq.Context[Any]) -> None:
        """Bind at once. Raises AddressInUseError or ConfigError naming the address."""
        others = [member for member in config.members if member.node_id != config.node_id and member.snapshot_address]
        plan = LinkPlan(
            cluster_id=config.cluster_id,
            node_id=config.node_id,
            incarnation=incarnation,
            listen_name="listen_snapshot_address" if config.listen_snapshot_address else "snapshot_address",
            listen_address=config.listen_snapshot_address or config.me.snapshot_address,
            addresses={member.node_id: member.snapshot_address for member in others},
            limits=config.limits,
        )
        self._links = MemberLinks(plan, PeerKind.SNAPSHOT, SnapshotGate, context=context)

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
        """How many frames were dropped, by reason; a copy."""
        return dict(self._links.gate.drops)

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What to poll for input; call `receive` when any of them is readable."""
        return self._links.sockets()

    def receive(self, limit: int) -> list[tuple[int, memoryview]]:
        """(sender, body) of at most `limit` frames that have arrived. Never waits."""
        return [(envelope.sender, body) for envelope, body in self._links.receive(limit)]

    def send(self, to: int, body: bytes) -> bool:
        """Send one frame; False without a connection, with a full queue, or to a member that has no such socket."""
        return self._links.send(to, body)

    def tend(self) -> None:
        """Send the beats that are due and give silent members up."""
        self._links.tend()

    def close(self) -> None:
        """Drop what is unsent and release all sockets; the context stays the caller's."""
        self._links.close()
