"""Peers over real sockets on loopback: greetings, misdelivery, restarts, limits, dead peers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
import zmq

from raftactors.codec.raft import encode_messages
from raftactors.config import NodeConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import Entry
from raftactors.errors import AddressInUseError, ConfigError, DataLostError
from raftactors.transport import PeerNetwork
from raftactors.transport.envelope import ENVELOPE_BYTES, PEER_MAGIC, Envelope, PeerKind, encode_envelope
from raftactors.transport.hello import Hello, decode_hello, decode_hello_wanted, encode_hello, encode_hello_wanted
from tests.transport.peers import CLUSTER_ID, RawListener, RawPeer, challenge_of, connect_all, heartbeat, pump

Configs = Callable[..., list[NodeConfig]]


class Process:
    """The network of one node in a context of its own, as in a process of its own."""

    def __init__(self, config: NodeConfig, incarnation: int) -> None:
        self._context = zmq.Context[Any]()
        try:
            self.network = PeerNetwork(config, incarnation, context=self._context)
        except BaseException:
            self._context.term()
            raise

    def end(self) -> None:
        """Return when the sockets are gone from the kernel too, so that the address can be bound again."""
        self.network.close()
        self._context.term()


@pytest.fixture
def start_process(closing: ExitStack) -> Callable[..., Process]:
    """Starts the network of one node that the test can end."""

    def build(config: NodeConfig, incarnation: int = 5) -> Process:
        process = Process(config, incarnation)
        closing.callback(process.end)
        return process

    return build


@pytest.fixture
def start(start_process: Callable[..., Process]) -> Callable[..., PeerNetwork]:
    """Starts the network of one node until the end of the test."""
    return lambda config, incarnation=5: start_process(config, incarnation).network


Start = Callable[..., PeerNetwork]


def proposal(to: int, payload: bytes, count: int = 1) -> Message:
    return Message(MessageType.PROP, to=to, sender=1, entries=(Entry(0, 0, payload),) * count)


def commits(messages: list[Message]) -> list[int]:
    return [message.commit for message in messages]


def test_three_members_connect_and_exchange_messages_in_order(configs: Configs, start: Start) -> None:
    networks = [start(config) for config in configs(3)]
    connect_all(networks)
    batch = [heartbeat(1, to, number) for number in range(50) for to in (2, 3)]
    assert networks[0].send(batch) == []
    for network, to in ((networks[1], 2), (networks[2], 3)):
        received = pump([network], lambda messages: len(messages) >= 50)
        assert received == [heartbeat(1, to, number) for number in range(50)]
    assert networks[0].send([heartbeat(1, 4, 1)]) == [4]
    assert networks[0].drops == {"outbound_to": 1}
    assert networks[1].drops == networks[2].drops == {}


def test_misdelivered_and_damaged_frames_never_become_messages(
    configs: Configs, start: Start, raw_peer: Callable[..., RawPeer]
) -> None:
    network = start(configs(3)[0])
    peer = raw_peer(network.address)
    peer.greet(challenge_of(network, 2))
    body = encode_messages([heartbeat(2, 1, 13)])
    good = encode_envelope(PEER_MAGIC, peer.envelope, body)
    changes: dict[str, dict[str, int]] = {
        "cluster_id": {"cluster_id": CLUSTER_ID + 1},
        "to": {"to": 3},
        "sender": {"sender": 4},
        "incarnation_stale": {"incarnation": 4},
        "hello_missing": {"incarnation": 6},
        "kind": {"kind": 4},
    }
    frames = {
        reason: encode_envelope(PEER_MAGIC, peer.envelope._replace(**changed), body)
        for reason, changed in changes.items()
    }
    frames["magic"] = b"HTTP" + good[4:]
    frames["version"] = good[:4] + b"\2" + good[5:]
    frames["flags"] = good[:6] + b"\1" + good[7:]
    frames["short"] = good[:20]
    frames["body_length"] = good[:-1]
    frames["checksum"] = good[:-1] + bytes([good[-1] ^ 1])
    frames["messages_truncated"] = encode_envelope(PEER_MAGIC, peer.envelope, body[:-1])
    hello = peer.envelope._replace(kind=PeerKind.HELLO)
    frames["schema"] = encode_envelope(PEER_MAGIC, hello, b"\x95\x02\xff\0\0\0")
    frames["version_range"] = encode_envelope(PEER_MAGIC, hello, b"\x95\x03\4\0\0\0")
    for frame in frames.values():
        peer.socket.send(frame)
    peer.say(99)
    assert commits(pump([network], bool)) == [99]
    assert network.drops == dict.fromkeys(frames, 1)


def test_a_message_of_several_parts_ends_its_connection(
    configs: Configs, start: Start, raw_peer: Callable[..., RawPeer]
) -> None:
    network = start(configs(3)[0])
    hostile, honest = raw_peer(network.address), raw_peer(network.address, sender=3)
    hostile.socket.send_multipart([b"x"] * 1_000)
    pump([network], lambda _: hostile.monitor.poll(0) != 0)
    honest.greet(challenge_of(network, 3))
    honest.say(99)
    assert commits(pump([network], bool)) == [99]
    assert network.drops == {"parts": 1}


def test_a_stranger_who_does_not_listen_at_the_members_address_speaks_for_nobody(
    configs: Configs, start: Start, raw_peer: Callable[..., RawPeer], raw_listener: Callable[[str], RawListener]
) -> None:
    config = configs(2)[0]
    network = start(config)
    member, listener = raw_peer(network.address), raw_listener(config.members[1].peer_address)
    assert listener.read(network)[0].kind == PeerKind.HELLO
    member.greet()
    wanted, body = listener.read(network)
    assert wanted.kind == PeerKind.HELLO_WANTED
    challenge = decode_hello_wanted(body)
    member.greet(challenge)
    member.say(1)
    assert commits(pump([network], bool)) == [1]
    for incarnation in (5, 2**63, 2**64 - 1):
        stranger = raw_peer(network.address, incarnation=incarnation)
        stranger.greet()
        stranger.greet(challenge ^ 1)
        stranger.say(13)
        assert pump([network], lambda _: network.drops.get("hello_missing", 0) >= 1) == []
        network._links.gate.drops.clear()
        member.say(99)
        assert commits(pump([network], bool)) == [99], "the member itself is still heard"


def test_a_member_that_has_known_a_later_incarnation_ends_the_node(
    configs: Configs, start: Start, raw_peer: Callable[..., RawPeer]
) -> None:
    network = start(configs(2)[0], 5)
    peer = raw_peer(network.address)

    def recall(incarnation: int, answer: int) -> None:
        peer.send(PeerKind.HELLO, encode_hello(Hello(answer=answer, known_incarnation=incarnation)))

    recall(6, 0)
    recall(5, challenge_of(network, 2))
    peer.say(1)
    assert commits(pump([network], bool)) == [1], "what is not proved is not believed, the same is no contradiction"
    recall(6, challenge_of(network, 2))
    with pytest.raises(DataLostError, match=r"node 2 has known this node at incarnation 6.*come to 5.*rebuild"):
        pump([network], lambda _: False)


def test_two_clusters_wired_crosswise_do_not_hear_each_other(configs: Configs, start: Start) -> None:
    ours, theirs = configs(2), configs(2, cluster_id=CLUSTER_ID + 1)
    crossed = (ours[0].members[0], theirs[1].members[1])
    network = start(dataclasses.replace(ours[0], members=crossed))
    stranger = start(theirs[1])

    def offered(_: list[Message]) -> bool:
        network.send([heartbeat(1, 2, 1)])
        return stranger.drops.get("cluster_id", 0) >= 1

    assert pump([network, stranger], offered) == []
    assert network.connected() == stranger.connected() == set()


def test_a_restarted_member_is_heard_and_an_older_incarnation_is_not(
    configs: Configs, start: Start, start_process: Callable[..., Process]
) -> None:
    first, second = configs(2)
    network = start(first)
    member = start_process(second, 7)
    connect_all([network, member.network])
    member.end()
    pump([network], lambda _: network.connected() == set())

    older = start_process(second, 6)

    def sent_by(peer: PeerNetwork, commit: int) -> Callable[[list[Message]], bool]:
        def done(received: list[Message]) -> bool:
            peer.send([heartbeat(2, 1, commit)])
            return commit in commits(received) or network.drops.get("incarnation_stale", 0) >= 2

        return done

    assert pump([network, older.network], sent_by(older.network, 13)) == []
    older.end()
    newer = start(second, 8)
    pump([network, newer], lambda _: network.connected() == {2} and newer.connected() == {1})
    assert newer.send([heartbeat(2, 1, 99)]) == []
    assert commits(pump([network], bool)) == [99]
    assert set(network.drops) == {"incarnation_stale"}


def test_hello_comes_first_on_every_new_connection_and_nothing_stale_follows(
    configs: Configs, start: Start, raw_peer: Callable[..., RawPeer], raw_listener: Callable[[str], RawListener]
) -> None:
    config = configs(2)[0]
    network = start(config)
    address = config.members[1].peer_address
    for round_number in range(3):
        for _ in range(100):
            assert network.send([heartbeat(1, 2, 13)]) == [2], "nobody is there"
        listener = raw_listener(address)
        envelope, _ = listener.read(network)
        assert envelope == Envelope(PeerKind.HELLO, CLUSTER_ID, 2, 1, 5)
        assert network.send([heartbeat(1, 2, 13)]) == [2], "nothing but greetings before the peer has its answer"
        peer = raw_peer(network.address)
        peer.send(PeerKind.HELLO_WANTED, encode_hello_wanted(round_number + 1))
        envelope, body = listener.read(network)
        assert decode_hello(body).answer == round_number + 1
        assert network.send([heartbeat(1, 2, round_number)]) == []
        envelope, body = listener.read(network)
        assert envelope.kind == PeerKind.RAFT
        assert body == encode_messages([heartbeat(1, 2, round_number)])
        listener.close()

        def lost(_: list[Message]) -> bool:
            return network.send([heartbeat(1, 2, 13)]) == [2]

        pump([network], lost)


def test_hello_is_sent_again_on_request_and_asked_for_when_missing(
    configs: Configs, start: Start, raw_peer: Callable[..., RawPeer], raw_listener: Callable[[str], RawListener]
) -> None:
    config = configs(2)[0]
    network = start(config)
    listener = raw_listener(config.members[1].peer_address)
    assert listener.read(network)[0].kind == PeerKind.HELLO
    peer = raw_peer(network.address)
    peer.send(PeerKind.HELLO_WANTED, encode_hello_wanted(7))
    assert listener.read(network)[0].kind == PeerKind.HELLO
    peer.say(13)
    wanted, body = listener.read(network)
    assert wanted == Envelope(PeerKind.HELLO_WANTED, CLUSTER_ID, 2, 1, 5)
    assert network.connected() == set()
    peer.greet(decode_hello_wanted(body))
    peer.say(99)
    assert commits(pump([network], bool)) == [99]
    assert network.connected() == {2}
    assert network.drops == {"hello_missing": 1}


def test_only_the_connection_that_greeted_last_speaks_for_a_member(
    configs: Configs, start: Start, raw_peer: Callable[..., RawPeer]
) -> None:
    network = start(configs(2)[0])
    former, latter = raw_peer(network.address), raw_peer(network.address)
    former.greet(challenge_of(network, 2))
    former.say(1)
    assert commits(pump([network], bool)) == [1]
    latter.say(13)
    latter.greet(challenge_of(network, 2))
    latter.say(2)
    assert commits(pump([network], bool)) == [2]
    pump([network], lambda _: former.monitor.poll(0) != 0)
    assert network.drops == {"hello_missing": 1}


def test_a_frame_above_the_limit_ends_its_connection_and_nothing_else(
    configs: Configs, start: Start, raw_peer: Callable[..., RawPeer]
) -> None:
    network = start(configs(3)[0])
    limit = 96 * 1024
    honest, hostile = raw_peer(network.address, sender=3), raw_peer(network.address)
    honest.greet(challenge_of(network, 3))
    hostile.greet(challenge_of(network, 2))
    envelope = encode_envelope(PEER_MAGIC, hostile.envelope, bytes(limit - ENVELOPE_BYTES))
    hostile.socket.send(envelope)
    pump([network], lambda _: network.drops == {"messages_trailing": 1})
    hostile.socket.send(envelope + b"\0")
    pump([network], lambda _: hostile.monitor.poll(0) != 0)
    honest.say(99)
    assert commits(pump([network], bool)) == [99]
    assert network.drops == {"messages_trailing": 1}


def test_batches_are_split_at_the_frame_limit_and_what_cannot_travel_is_reported(
    configs: Configs, start: Start
) -> None:
    networks = [start(config) for config in configs(2)]
    connect_all(networks)
    batch = [proposal(2, bytes([number]) * 30_000) for number in range(20)]
    assert networks[0].send(batch) == []
    assert pump([networks[1]], lambda messages: len(messages) >= 20) == batch
    assert networks[0].drops == {}

    snapshot = Message(MessageType.SNAP, to=2, sender=1, term=1)
    assert networks[0].send([proposal(2, bytes(96 * 1024)), snapshot, heartbeat(1, 2, 99)]) == [2]
    assert commits(pump([networks[1]], bool)) == [99]
    assert networks[0].drops == {"outbound_oversize": 1, "outbound_kind": 1}


@pytest.mark.timeout(60)
def test_a_peer_that_does_not_read_becomes_unreachable_and_blocks_neither_sending_nor_the_end(
    configs: Configs,
    start_process: Callable[..., Process],
    raw_peer: Callable[..., RawPeer],
    raw_listener: Callable[[str], RawListener],
) -> None:
    config = configs(2)[0]
    process = start_process(config)
    listener = raw_listener(config.members[1].peer_address)
    assert listener.read(process.network)[0].kind == PeerKind.HELLO
    raw_peer(process.network.address).send(PeerKind.HELLO_WANTED, encode_hello_wanted(7))
    assert listener.read(process.network)[0].kind == PeerKind.HELLO
    payload = bytes(90_000)
    assert any(process.network.send([proposal(2, payload)]) == [2] for _ in range(5_000))
    process.end()


def test_an_address_in_use_or_impossible_is_named(configs: Configs, start: Start) -> None:
    config = configs(2)[0]
    network = start(config)
    with pytest.raises(AddressInUseError, match=f"peer_address {config.me.peer_address} is in use.*another port"):
        start(config)
    elsewhere = dataclasses.replace(config, listen_peer_address="192.0.2.1:7000")
    with pytest.raises(ConfigError, match=r"listen_peer_address is '192\.0\.2\.1:7000' and cannot be bound"):
        start(elsewhere)
    assert network.address == config.me.peer_address


def test_a_port_of_the_kernel_is_told(configs: Configs, start: Start) -> None:
    network = start(dataclasses.replace(configs(2)[0], listen_peer_address="127.0.0.1:0"))
    host, port = network.address.split(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_close_leaves_no_thread_and_may_be_called_twice(configs: Configs) -> None:
    process = psutil.Process()
    threads_before, descriptors_before = process.num_threads(), process.num_fds()
    with zmq.Context[Any]() as own_context:
        networks = [PeerNetwork(config, 5, context=own_context) for config in configs(3)]
        connect_all(networks)
        for network in networks:
            network.close()
            network.close()
    assert process.num_threads() == threads_before
    assert process.num_fds() <= descriptors_before + 6, "only the held ports stay"
