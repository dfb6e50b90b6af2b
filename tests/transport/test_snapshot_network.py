"""The snapshot socket: its frames arrive there and nowhere else."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from raftactors.config import NodeConfig
from raftactors.transport import SnapshotNetwork
from raftactors.transport.envelope import (
    PEER_MAGIC,
    SNAPSHOT_MAGIC,
    Envelope,
    PeerKind,
    SnapshotGate,
    encode_envelope,
)

from .conftest import hold_port

TIMEOUT_MS = 10_000


@pytest.fixture
def networks(
    configs: Callable[..., list[NodeConfig]], closing: ExitStack, context: zmq.Context[Any]
) -> list[SnapshotNetwork]:
    """The snapshot sockets of nodes 1 and 2; node 3 has none."""
    plain = configs(3)
    members = tuple(
        dataclasses.replace(member, snapshot_address=hold_port(closing) if member.node_id < 3 else "")
        for member in plain[0].members
    )
    made = [SnapshotNetwork(dataclasses.replace(config, members=members), 1, context=context) for config in plain[:2]]
    for network in made:
        closing.callback(network.close)
    return made


def exchange(sender: SnapshotNetwork, receiver: SnapshotNetwork, to: int, body: bytes) -> list[tuple[int, bytes]]:
    """Send until it is taken, then wait for what arrives."""
    poller = zmq.Poller()
    for network in (sender, receiver):
        for socket in network.sockets():
            poller.register(socket, zmq.POLLIN)
    sent = False
    deadline_s = time.monotonic() + TIMEOUT_MS / 1000
    while True:
        sent = sent or sender.send(to, body)
        sender.receive(10)
        sender.tend()
        arrived = [(node, bytes(content)) for node, content in receiver.receive(10)]
        if arrived:
            return arrived
        assert time.monotonic() < deadline_s, "nothing happens"
        poller.poll(20)


def test_frames_arrive_in_both_directions(networks: list[SnapshotNetwork]) -> None:
    one, two = networks
    large = bytes(60_000)
    assert exchange(one, two, 2, b"offer") == [(1, b"offer")]
    assert exchange(two, one, 1, large) == [(2, large)]
    assert one.drops == two.drops == {}


def test_a_member_without_the_socket_is_not_reached(networks: list[SnapshotNetwork]) -> None:
    assert not networks[0].send(3, b"x")
    assert not networks[0].send(9, b"x")


def test_frames_of_another_socket_are_dropped() -> None:
    gate = SnapshotGate(cluster_id=7, node_id=1, peers=[2], kinds=(PeerKind.SNAPSHOT,), body_bytes_max=100)
    gate.confirm(2, 1)
    good = Envelope(PeerKind.SNAPSHOT, 7, 1, 2, 1)
    assert gate.admit(encode_envelope(SNAPSHOT_MAGIC, good, b"x")) is not None
    assert gate.admit(encode_envelope(PEER_MAGIC, good, b"x")) is None
    assert gate.admit(encode_envelope(SNAPSHOT_MAGIC, good._replace(kind=PeerKind.RAFT), b"x")) is None
    assert gate.admit(encode_envelope(SNAPSHOT_MAGIC, good._replace(cluster_id=8), b"x")) is None
    assert gate.drops == {"magic": 1, "kind": 1, "cluster_id": 1}
