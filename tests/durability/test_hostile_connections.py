"""The attacks do what they say, and take it in their stride when a node hangs up, is gone or says nothing."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random
from typing import Any

import pytest

from raftactors.cluster.ports import hold_port
from raftactors.codec.frames import FrameKind, encode_call
from raftactors.transport.envelope import CLIENT_MAGIC, decode_envelope
from tests.durability import hostile_connections
from tests.durability.hostile_connections import (
    GREETING_BYTES,
    ZMTP_ATTACKS,
    SlowReader,
    frame,
    greeting,
    multipart_bomb,
    raw_garbage,
    ready,
)
from tests.durability.hostile_process import IdleConnections

ATTACKS = (raw_garbage, *ZMTP_ATTACKS)


class Listener(socketserver.ThreadingTCPServer):
    """Greets and keeps all that comes, at most so many bytes a connection; then hangs up."""

    daemon_threads = False

    def __init__(self, bytes_max: int = 2**30) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.bytes_max = bytes_max
        self.taken: list[bytes] = []
        self.ended = threading.Condition()

    def await_ended(self, connections: int) -> bytes:
        """Wait until so many connections have ended; all that came on them, in the order of their ends."""
        with self.ended:
            assert self.ended.wait_for(lambda: len(self.taken) >= connections, 10)
            return b"".join(self.taken)

    @property
    def text(self) -> str:
        """The address."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Session(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Listener)
        taken = b""
        try:
            self.request.sendall(greeting())
            while len(taken) < self.server.bytes_max and (got := self.request.recv(65_536)):
                taken += got
        except OSError:
            pass
        with self.server.ended:
            self.server.taken.append(taken)
            self.server.ended.notify_all()


Listen = Callable[..., Listener]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Makes listeners that are closed, and their connections waited for, at the end."""
    made: list[tuple[Listener, threading.Thread]] = []

    def start(**options: Any) -> Listener:
        listener = Listener(**options)
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        made.append((listener, thread))
        return listener

    yield start
    for listener, thread in made:
        listener.shutdown()
        listener.server_close()
        thread.join()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_frames_leave(listen: Listen, attack: hostile_connections.Attack) -> None:
    listener = listen()
    assert sum(attack(listener.text, Random(seed), 6) for seed in range(5)) >= 24
    assert len(listener.await_ended(5)) > 100


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_node_that_hangs_up_or_is_gone_is_no_error(listen: Listen, attack: hostile_connections.Attack) -> None:
    for seed in range(3):
        attack(listen(bytes_max=1).text, Random(seed), 50)
    with closing(hold_port()) as nobody:
        assert attack(nobody.address, Random(1), 6) == 0


def test_a_bomb_is_one_message_without_end_and_stops_when_the_node_hangs_up(listen: Listen) -> None:
    whole = listen()
    assert multipart_bomb(whole.text, 50_000, part_bytes=10_000) == 50_000
    handshake = GREETING_BYTES + len(ready())
    assert whole.await_ended(1)[handshake:] == frame(bytes(10_000), more=True) * 5
    assert multipart_bomb(listen(bytes_max=100_000).text, 2**30) < 2**30


def test_a_slow_reader_asks_as_a_client_does(listen: Listen) -> None:
    listener = listen()
    reader = SlowReader(listener.text, 7, encode_call("blank", [10]))
    assert reader.ask(2, 3) == 2
    reader.close()
    rest, kinds = listener.await_ended(1)[GREETING_BYTES + len(ready()) :], []
    while rest:
        length, rest = rest[1], rest[2:]
        envelope, _ = decode_envelope(rest[:length], magic=CLIENT_MAGIC, body_bytes_max=1_000)
        kinds.append((envelope.kind, envelope.cluster_id))
        rest = rest[length:]
    assert kinds == [(FrameKind.HELLO, 7), (FrameKind.QUERIES, 7), (FrameKind.QUERIES, 7)]


def test_idle_connections_that_a_node_ends_are_let_go(listen: Listen) -> None:
    listener, impatient = listen(), listen(bytes_max=0)
    with closing(IdleConnections()) as idle:
        idle.open(listener.text, greeted=True)
        idle.open(listener.text, greeted=False)
        idle.open(impatient.text, greeted=False)
        deadline_s = time.monotonic() + 10
        while len(idle) > 2 and time.monotonic() < deadline_s:
            idle.let_go()
        assert len(idle) == 2
