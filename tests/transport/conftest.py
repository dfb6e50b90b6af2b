"""Members on ports that nobody else is given, and a peer whose every byte the test writes itself."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from raftactors.config import Limits, Member, NodeConfig
from tests.transport.peers import RawListener, RawPeer

SMALL = Limits(
    command_bytes_max=1024,
    client_frame_bytes_max=8 * 1024,
    proposal_bytes_max=8 * 1024,
    append_bytes_max=16 * 1024,
    peer_frame_bytes_max=96 * 1024,
    snapshot_chunk_bytes=32 * 1024,
)


def hold_port(closing: ExitStack) -> str:
    """An address whose port the kernel gives to nobody else: bound without listening, so libzmq may still take it."""
    holder = closing.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{holder.getsockname()[1]}"


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    """A context that must be empty at the end: `term` waits for sockets that were left open."""
    with zmq.Context[Any]() as context:
        yield context


@pytest.fixture
def closing(context: zmq.Context[Any]) -> Iterator[ExitStack]:
    """Closes what a test opened, before the context ends."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def configs(closing: ExitStack, tmp_path: Path) -> Callable[..., list[NodeConfig]]:
    """Configurations of a cluster of `size` nodes, ids from 1."""

    def build(size: int = 2, *, cluster_id: int = 77, limits: Limits = SMALL) -> list[NodeConfig]:
        members = tuple(
            Member(node_id=node_id, peer_address=hold_port(closing), client_address=hold_port(closing))
            for node_id in range(1, size + 1)
        )
        return [
            NodeConfig(cluster_id=cluster_id, node_id=member.node_id, data_dir=tmp_path, members=members, limits=limits)
            for member in members
        ]

    return build


@pytest.fixture
def raw_peer(closing: ExitStack, context: zmq.Context[Any]) -> Callable[..., RawPeer]:
    """Makes connections to a node's peer address."""
    return lambda *args, **kwargs: closing.enter_context(RawPeer(context, *args, **kwargs))


@pytest.fixture
def raw_listener(closing: ExitStack) -> Callable[[str], RawListener]:
    """Listens where a node expects its peer."""
    return lambda address: closing.enter_context(RawListener(address))
