"""Asking real endpoints, before a node takes part and while it has no leader."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from raftactors.cluster.ports import hold_port
from raftactors.config import Member, NodeConfig
from raftactors.errors import ConfigDisagreesError, NotAMemberError
from raftactors.joining import watch
from raftactors.joining.asking import ask_members
from raftactors.joining.watch import ConfigurationWatch, check_at_start
from tests.client.fake_node import FakeNode

LONG_MS = 5_000


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def configure(addresses: dict[int, str], *, me: int = 1, ask_members_ms: int = LONG_MS) -> NodeConfig:
    members = tuple(
        Member(node_id=node_id, peer_address="127.0.0.1:1", client_address=address)
        for node_id, address in addresses.items()
    )
    return NodeConfig(
        cluster_id=7,
        node_id=me,
        data_dir=Path("/unused"),
        members=members,
        application="fake:KeyValue",
        ask_members_ms=ask_members_ms,
    )


def start_two(stack: ExitStack, *, cluster_id: int = 7) -> tuple[dict[int, str], list[FakeNode]]:
    """Nodes 2 and 3 of a cluster of three, and the addresses of all, of which the first is nobody's."""
    nodes = [stack.enter_context(FakeNode(node_id=number, cluster_id=cluster_id)) for number in (2, 3)]
    held = hold_port()
    stack.callback(held.close)
    addresses = {1: held.address} | {node.node_id: node.address for node in nodes}
    for node in nodes:
        node.members = list(addresses.items())
    return addresses, nodes


def test_members_that_agree(stack: ExitStack, context: zmq.Context[Any]) -> None:
    addresses, _ = start_two(stack)
    answers = ask_members(configure(addresses), context)
    assert {node_id: welcome.node_id for node_id, welcome in answers.items()} == {2: 2, 3: 3}
    check_at_start(configure(addresses))


def test_nobody_listens(context: zmq.Context[Any], stack: ExitStack) -> None:
    """Refused connections end the question at once: nodes that are started together do not wait for each other."""
    held = [stack.enter_context(contextlib.closing(hold_port())) for _ in range(2)]
    addresses = {1: "127.0.0.1:1"} | {number: port.address for number, port in enumerate(held, 2)}
    begun_s = time.monotonic()
    assert ask_members(configure(addresses), context) == {}
    assert time.monotonic() - begun_s < LONG_MS / 1000 / 4


def test_somebody_listens_and_is_silent(context: zmq.Context[Any], stack: ExitStack) -> None:
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    addresses, _ = start_two(stack)
    addresses[4] = f"127.0.0.1:{silent.getsockname()[1]}"
    answers = ask_members(configure(addresses, ask_members_ms=500), context)
    assert 4 not in answers


def test_addresses_that_cannot_be_asked(context: zmq.Context[Any]) -> None:
    config = configure({1: "127.0.0.1:1", 2: "127.0.0.1:0", 3: "no.such.host.invalid:1"}, ask_members_ms=50)
    assert ask_members(config, context) == {}


def test_a_node_of_another_cluster_does_not_start(stack: ExitStack) -> None:
    addresses, _ = start_two(stack, cluster_id=8)
    with pytest.raises(ConfigDisagreesError, match="node 2 is in cluster 8, not in 7, node 3 is in cluster 8"):
        check_at_start(configure(addresses))


def test_one_that_disagrees_is_logged(stack: ExitStack, caplog: pytest.LogCaptureFixture) -> None:
    addresses, (liar, _) = start_two(stack)
    liar.cluster_id = 8
    # Its frames still name cluster 7; what counts is what it says in them.
    check_at_start(configure(addresses))
    assert "node 2 is in cluster 8, not in 7" in caplog.text


def test_zero_asks_nobody(stack: ExitStack, context: zmq.Context[Any]) -> None:
    addresses, _ = start_two(stack, cluster_id=8)
    check_at_start(configure(addresses, ask_members_ms=0))
    quiet = ConfigurationWatch(configure(addresses, ask_members_ms=0), leader_id=lambda: 0, context=context)
    quiet.start()
    quiet.close()
    assert quiet.error is None


def test_a_node_without_leader_learns_it_later(
    stack: ExitStack, context: zmq.Context[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ASK_AGAIN_MS", 5)
    addresses, nodes = start_two(stack)
    leader_id = 2
    standing = ConfigurationWatch(configure(addresses), leader_id=lambda: leader_id, context=context)
    standing.start()
    stack.callback(standing.close)
    for node in nodes:
        node.members = [(2, addresses[2]), (3, addresses[3])]
    with selectors.DefaultSelector() as selector:
        selector.register(standing, selectors.EVENT_READ)
        assert not selector.select(0.2), "a node that has a leader does not ask"
        leader_id = 0
        assert selector.select(20)
    assert isinstance(standing.error, NotAMemberError)
    assert "has the members 2, 3, without node 1" in str(standing.error)
