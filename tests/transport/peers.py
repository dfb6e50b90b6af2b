"""Two ends of a wire that the tests write and read byte by byte, and waiting with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from raftactors.codec.raft import encode_messages
from raftactors.core.messages import Message, MessageType
from raftactors.transport import PeerNetwork
from raftactors.transport.envelope import PEER_MAGIC, Envelope, PeerKind, decode_envelope, encode_envelope
from raftactors.transport.hello import Hello, encode_hello

DEADLINE_S = 20.0
CLUSTER_ID = 77


def heartbeat(sender: int, to: int, commit: int) -> Message:
    """A message that `commit` tells from others."""
    return Message(MessageType.HEARTBEAT, to=to, sender=sender, term=1, commit=commit)


def pump(networks: Sequence[PeerNetwork], done: Callable[[list[Message]], bool]) -> list[Message]:
    """Let the networks work until `done` says so of everything received; fails after DEADLINE_S."""
    received: list[Message] = []
    deadline = time.monotonic() + DEADLINE_S
    poller = zmq.Poller()
    for network in networks:
        for socket in network.sockets():
            poller.register(socket, zmq.POLLIN)
    while True:
        for network in networks:
            received += network.receive(100)
            network.tend()
        if done(received):
            return received
        assert time.monotonic() < deadline, f"waited in vain; {received}, {[network.drops for network in networks]}"
        poller.poll(50)


def connect_all(networks: Sequence[PeerNetwork]) -> None:
    """Wait until every network is connected with every other one."""
    pump(networks, lambda _: all(len(network.connected()) == len(networks) - 1 for network in networks))


def challenge_of(network: PeerNetwork, member: int) -> int:
    """What `network` sends to the address of a member, where a test that plays only one side does not listen."""
    return network._links._inbound.challenges[member]


class RawPeer:
    """A connection to a node's peer address that claims to be `sender`."""

    def __init__(
        self, context: zmq.Context[Any], address: str, *, sender: int = 2, to: int = 1, incarnation: int = 5
    ) -> None:
        self.envelope = Envelope(PeerKind.RAFT, CLUSTER_ID, to, sender, incarnation)
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.monitor: zmq.Socket[bytes] = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(f"tcp://{address}")

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()

    def send(self, kind: PeerKind, body: bytes = b"") -> None:
        self.socket.send(encode_envelope(PEER_MAGIC, self.envelope._replace(kind=kind), body))

    def greet(self, answer: int = 0) -> None:
        """Send HELLO, with the challenge that `challenge_of` tells if it is to count."""
        self.send(PeerKind.HELLO, encode_hello(Hello(answer=answer)))

    def say(self, commit: int) -> None:
        """Send a heartbeat that `commit` tells from others."""
        self.send(PeerKind.RAFT, encode_messages([heartbeat(self.envelope.sender, self.envelope.to, commit)]))


class RawListener:
    """Listens at a member's peer address and reads the envelopes that arrive."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context[Any]()
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(f"tcp://{address}")

    def __enter__(self) -> RawListener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Return when the address can be bound again."""
        self.socket.close()
        self._context.term()

    def read(self, network: PeerNetwork) -> tuple[Envelope, bytes]:
        """Let `network` work until a frame of it arrives here."""
        pump([network], lambda _: bool(int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN))
        _, frame = self.socket.recv_multipart()
        envelope, body = decode_envelope(frame, magic=PEER_MAGIC, body_bytes_max=2**24)
        return envelope, bytes(body)
