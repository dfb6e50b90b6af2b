"""Queries with large or slow results on a real node: its memory is bounded and the other clients hardly notice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest
import zmq

from raftactors.client import Client
from raftactors.cluster import LocalCluster
from raftactors.codec import frames, replies
from raftactors.codec.frames import FRAME_COMMANDS_MAX, FrameKind, Level
from raftactors.codec.replies import ResultStatus
from raftactors.config import Limits
from raftactors.transport.client_endpoint import ClientSocket
from raftactors.transport.envelope import CLIENT_MAGIC, Envelope, encode_envelope

MIB = 2**20
STEP_TIMEOUT_S = 20.0
GROWTH_BYTES_MAX = 48 * MIB
STALL_MS = 500
SOURCE = '''
import time

from raftactors.app import Application, command, query


class Library(Application):
    @command
    def write(self) -> None:
        """Change nothing."""

    @query
    def page(self, number: int, size: int) -> list[object]:
        return [number, bytes(size)]

    @query
    def search(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1000)

    def snapshot(self) -> object:
        return None

    def restore(self, snapshot: object) -> None:
        pass
'''


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("library")
    (folder / "library.py").write_text(SOURCE)
    application, limits = f"{folder / 'library.py'}:Library", Limits(client_stall_ms=STALL_MS)
    with LocalCluster(1, application=application, data_dir=folder / "cluster", limits=limits) as running:
        running.wait_leader()
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as connected:
        connected.call("write")
        yield connected


class MemoryWatch:
    """The most memory that a process had between two looks, above what it had at the first."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._first_bytes = self._most_bytes = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            self._most_bytes = max(self._most_bytes, self._process.memory_info().rss)

    @property
    def growth_bytes(self) -> int:
        return self._most_bytes - self._first_bytes


def pid_of(cluster: LocalCluster) -> int:
    (node,) = cluster.nodes.values()
    assert node.pid is not None
    return node.pid


def greeted(cluster: LocalCluster, context: zmq.Context[zmq.Socket[bytes]]) -> ClientSocket:
    """A connection of a client that does as it likes."""
    (address,) = cluster.addresses.values()
    socket = ClientSocket(address, context=context, cluster_id=cluster.cluster_id)
    poller = zmq.Poller()
    poller.register(socket.socket, zmq.POLLIN)
    deadline = time.monotonic() + STEP_TIMEOUT_S
    send(socket, FrameKind.HELLO, frames.encode_hello(1, "test"))
    while not socket.receive():
        assert time.monotonic() < deadline
        poller.poll(100)
    return socket


def send(socket: ClientSocket, kind: FrameKind, body: bytes) -> None:
    poller = zmq.Poller()
    poller.register(socket.socket, zmq.POLLOUT)
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while not socket.send(kind, body):
        assert time.monotonic() < deadline
        poller.poll(100)


def queries(request: int, method: str, *args: object) -> bytes:
    """As many queries as a frame may hold."""
    calls = [frames.encode_call(method, args)] * FRAME_COMMANDS_MAX
    return frames.encode_queries(request, level=Level.LINEARIZABLE, queries=calls)


def await_answers(socket: ClientSocket, count: int) -> None:
    """Take so many replies, of which each answers the first queries of its frame at least."""
    poller = zmq.Poller()
    poller.register(socket.socket, zmq.POLLIN)
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while count > 0:
        assert time.monotonic() < deadline
        poller.poll(100)
        for envelope, body in socket.receive():
            assert envelope.kind == FrameKind.REPLIES
            for _, answer in replies.decode_replies(body):
                reply = replies.decode_reply(answer)
                assert isinstance(reply, replies.ResultsReply)
                assert reply.results[0][0] == ResultStatus.OK
                count -= 1


def test_frames_full_of_large_results_cost_little_memory(cluster: LocalCluster, client: Client) -> None:
    """All results of these four frames together have 344 MiB."""
    with zmq.Context() as context, MemoryWatch(pid_of(cluster)) as watch, closing(greeted(cluster, context)) as socket:
        for request in range(2, 6):
            send(socket, FrameKind.QUERIES, queries(request, "page", 1, 22_000))
        client.call("write")
        await_answers(socket, 4)
    assert watch.growth_bytes < GROWTH_BYTES_MAX


def connected_ports(cluster: LocalCluster) -> set[int]:
    """The ports of the clients that are connected."""
    (address,) = cluster.addresses.values()
    connections = psutil.Process(pid_of(cluster)).net_connections("tcp")
    return {
        connection.raddr.port
        for connection in connections
        if connection.raddr and connection.laddr.port == int(address.rpartition(":")[2])
    }


def test_a_client_that_never_reads_costs_little_memory_and_its_connection(
    cluster: LocalCluster, client: Client
) -> None:
    """What its kernel takes in is not the node's, so it asks for more than that: 80 MiB."""
    (address,) = cluster.addresses.values()
    calls = [frames.encode_call("page", [1, 100_000])] * 2
    others = connected_ports(cluster)
    with zmq.Context() as context, MemoryWatch(pid_of(cluster)) as watch, context.socket(zmq.DEALER) as deaf:
        deaf.setsockopt(zmq.LINGER, 0)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.setsockopt(zmq.SNDTIMEO, round(STEP_TIMEOUT_S * 1000))
        deaf.connect(f"tcp://{address}")
        envelope = Envelope(FrameKind.QUERIES, cluster.cluster_id, 0, 0, 0)
        body = frames.encode_queries(1, level=Level.LINEARIZABLE, queries=calls)
        deaf.send(encode_envelope(CLIENT_MAGIC, envelope, body))
        assert deaf.poll(round(STEP_TIMEOUT_S * 1000))  # The first answer is there.
        (port,) = connected_ports(cluster) - others
        for _ in range(400):
            deaf.send(encode_envelope(CLIENT_MAGIC, envelope, body))
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while port in connected_ports(cluster):
            assert time.monotonic() < deadline
            assert client.query("page", 5, 10) == [5, bytes(10)]
    assert watch.growth_bytes < 8 * MIB


def test_slow_queries_of_one_client_do_not_keep_another_waiting(cluster: LocalCluster, client: Client) -> None:
    """The queries of the one take 20 s together."""
    with cluster.client() as greedy:
        answers = [greedy.submit_query("search", 2, timeout_ms=60_000) for _ in range(10_000)]
        assert answers[0].get() is None
        for number in range(20):
            client.call("write")
            assert client.query("page", number, 10)[0] == number
        assert not answers[-1].done()


def test_an_ordinary_client_gets_thousands_of_large_results(cluster: LocalCluster, client: Client) -> None:
    with MemoryWatch(pid_of(cluster)) as watch:
        answers = [client.submit_query("page", number, 22_000) for number in range(FRAME_COMMANDS_MAX)]
        for number, answer in enumerate(answers):
            assert answer.get() == [number, bytes(22_000)]
            assert answer.index >= 1
    assert watch.growth_bytes < GROWTH_BYTES_MAX


def test_an_ordinary_client_gets_hundreds_of_slow_results(client: Client) -> None:
    """Together they take longer than a client waits for a node that says nothing."""
    answers = [client.submit_query("search", 5) for _ in range(300)]
    assert [answer.get() for answer in answers] == [None] * 300
