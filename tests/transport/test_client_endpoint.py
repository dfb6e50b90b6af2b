"""A node's client socket and the client's end of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from raftactors.codec.frames import FrameKind
from raftactors.config import NodeConfig
from raftactors.errors import AddressInUseError, WireError
from raftactors.transport import ClientEndpoint, ClientSocket
from raftactors.transport.envelope import CLIENT_MAGIC, PEER_MAGIC, Envelope, encode_envelope
from tests.transport.peers import DEADLINE_S

Configs = Callable[..., list[NodeConfig]]


def until(done: Callable[[], Any], *sockets: zmq.Socket[bytes]) -> Any:
    """Poll the sockets for input until `done` gives something true; fails after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    poller = zmq.Poller()
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
    while not (result := done()):
        assert time.monotonic() < deadline, "waited in vain"
        poller.poll(20)
    return result


@pytest.fixture
def config(configs: Configs) -> NodeConfig:
    return configs(1)[0]


@pytest.fixture
def serve(closing: ExitStack, context: zmq.Context[Any]) -> Callable[..., ClientEndpoint]:
    def build(config: NodeConfig, incarnation: int = 5) -> ClientEndpoint:
        endpoint = ClientEndpoint(config, incarnation, context)
        closing.callback(endpoint.close)
        return endpoint

    return build


@pytest.fixture
def dial(closing: ExitStack, context: zmq.Context[Any]) -> Callable[..., ClientSocket]:
    def build(address: str, cluster_id: int = 0) -> ClientSocket:
        client = ClientSocket(address, context=context, cluster_id=cluster_id)
        closing.callback(client.close)
        return client

    return build


Serve = Callable[..., ClientEndpoint]
Dial = Callable[..., ClientSocket]


def welcome(endpoint: ClientEndpoint, client: ClientSocket) -> bytes:
    """Let the client greet and be welcomed; returns its routing id."""
    until(lambda: client.send(FrameKind.HELLO, b"hello"), client.socket)
    ((routing_id, _, _),) = until(lambda: endpoint.receive(10), endpoint.socket)
    assert endpoint.send(routing_id, FrameKind.WELCOME, b"welcome")
    ((envelope, body),) = until(client.receive, client.socket)
    assert (envelope.kind, bytes(body)) == (FrameKind.WELCOME, b"welcome")
    return bytes(routing_id)


def test_a_client_is_welcomed_and_pins_the_cluster(config: NodeConfig, serve: Serve, dial: Dial) -> None:
    endpoint = serve(config)
    client = dial(endpoint.address)
    assert client.cluster_id == 0
    routing_id = welcome(endpoint, client)
    assert client.cluster_id == 77
    assert client.send(FrameKind.COMMANDS, b"commands")
    ((again, envelope, body),) = until(lambda: endpoint.receive(10), endpoint.socket)
    assert (again, envelope, bytes(body)) == (routing_id, Envelope(FrameKind.COMMANDS, 77, 0, 0, 0), b"commands")
    assert endpoint.send(routing_id, FrameKind.REPLIES, b"replies")
    ((envelope, body),) = until(client.receive, client.socket)
    assert (envelope, bytes(body)) == (Envelope(FrameKind.REPLIES, 77, 0, 1, 5), b"replies")
    assert endpoint.drops == client.drops == {}


def test_what_is_no_client_frame_is_dropped_and_counted(
    config: NodeConfig, serve: Serve, dial: Dial, context: zmq.Context[Any], closing: ExitStack
) -> None:
    endpoint = serve(config)
    client = dial(endpoint.address)
    good = Envelope(FrameKind.COMMANDS, 77, 0, 0, 0)
    until(lambda: client.send(FrameKind.COMMANDS, b"before the welcome"), client.socket)
    client.socket.send(encode_envelope(CLIENT_MAGIC, good._replace(cluster_id=78), b""))
    client.socket.send(encode_envelope(CLIENT_MAGIC, good._replace(kind=FrameKind.REPLIES), b""))
    client.socket.send(encode_envelope(CLIENT_MAGIC, good._replace(sender=1), b""))
    client.socket.send(encode_envelope(PEER_MAGIC, good, b""))
    client.socket.send_multipart([b"one", b"two"])
    client.socket.send(b"")
    client.socket.send(encode_envelope(CLIENT_MAGIC, good, b"good"))
    ((_, _, body),) = until(lambda: endpoint.receive(10), endpoint.socket)
    assert bytes(body) == b"good"
    assert endpoint.drops == {"cluster_id": 2, "kind": 1, "sender": 1, "magic": 1, "parts": 1, "short": 1}


def test_a_client_of_another_cluster_hears_nothing(config: NodeConfig, serve: Serve, dial: Dial) -> None:
    endpoint = serve(config)
    client = dial(endpoint.address, cluster_id=78)
    until(lambda: client.send(FrameKind.HELLO, b""), client.socket)
    until(lambda: endpoint.receive(10) or endpoint.drops, endpoint.socket)
    assert endpoint.drops == {"cluster_id": 1}


def test_a_restarted_node_is_not_heard_before_it_welcomes_again(config: NodeConfig, serve: Serve, dial: Dial) -> None:
    with zmq.Context[Any]() as former_context:
        endpoint = ClientEndpoint(config, 5, former_context)
        client = dial(endpoint.address)
        welcome(endpoint, client)
        endpoint.close()
    until(lambda: not client.send(FrameKind.KEEP_ALIVE, b""), client.socket)
    restarted = serve(config, 6)
    until(lambda: client.send(FrameKind.KEEP_ALIVE, b""), client.socket)
    ((routing_id, _, _),) = until(lambda: restarted.receive(1), restarted.socket)
    assert restarted.send(routing_id, FrameKind.REPLIES, b"")
    until(lambda: client.receive() or client.drops, client.socket)
    assert client.drops == {"welcome_missing": 1}
    assert restarted.send(routing_id, FrameKind.WELCOME, b"")
    until(client.receive, client.socket)
    assert restarted.send(routing_id, FrameKind.REPLIES, b"")
    until(client.receive, client.socket)


def test_sending_to_a_client_that_is_gone_or_full_fails_at_once(config: NodeConfig, serve: Serve, dial: Dial) -> None:
    endpoint = serve(config)
    client = dial(endpoint.address)
    routing_id = welcome(endpoint, client)
    reply = bytes(endpoint.body_bytes_max)
    assert not endpoint.send(routing_id, FrameKind.REPLIES, reply + b"\0")
    assert any(not endpoint.send(routing_id, FrameKind.REPLIES, reply) for _ in range(20_000))
    client.close()

    def gone() -> bool:
        return not endpoint.send(routing_id, FrameKind.REPLIES, b"") and "outbound_gone" in endpoint.drops

    until(gone, endpoint.socket)
    assert not endpoint.send(b"nobody", FrameKind.REPLIES, b"")
    assert set(endpoint.drops) == {"outbound_oversize", "outbound_full", "outbound_gone"}


def test_a_client_without_a_node_queues_nothing(config: NodeConfig, serve: Serve, dial: Dial) -> None:
    client = dial(config.me.client_address)
    assert not any(client.send(FrameKind.HELLO, b"stale") for _ in range(100))
    endpoint = serve(config)
    until(lambda: client.send(FrameKind.HELLO, b"fresh"), client.socket)
    ((_, _, body),) = until(lambda: endpoint.receive(10), endpoint.socket)
    assert bytes(body) == b"fresh"
    with pytest.raises(WireError, match="body_oversize"):
        client.send(FrameKind.COMMANDS, bytes(client.body_bytes_max + 1))


def test_an_address_in_use_is_named(config: NodeConfig, serve: Serve) -> None:
    serve(config)
    with pytest.raises(AddressInUseError, match=f"client_address {config.me.client_address} is in use"):
        serve(config)
