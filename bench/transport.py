"""How fast do Raft messages travel between two processes, checks and decoding included?

Two processes on loopback, each with the sockets of a node. Round trips: one message there and one back, nothing else
under way. Rates: one process sends batches as fast as the other confirms them, with a window of frames under way; what
is counted has been checked, decoded and handed over. Codec figures are the same thread, no socket.

    python bench/transport.py --seconds 2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import zmq
from measurement import environment, median, percentile
from rich import box
from rich.console import Console
from rich.table import Table

from raftactors.codec.raft import decode_messages, encode_messages
from raftactors.config import Member, NodeConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import Entry
from raftactors.transport import PeerNetwork
from raftactors.transport.envelope import PEER_MAGIC, Envelope, EnvelopeGate, PeerKind, encode_envelope

_WINDOW_FRAMES = 32
_CONNECT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One question and its answer; `value` is the median of the rounds."""

    question: str
    value: float
    unit: str
    rounds: tuple[float, ...]


def append(to: int, sender: int, value_bytes: int) -> Message:
    """An append of one entry."""
    entry = Entry(7, 101, bytes(value_bytes))
    return Message(MessageType.APP, to=to, sender=sender, term=7, log_term=7, index=100, commit=99, entries=(entry,))


def answer(to: int, sender: int, received: int) -> Message:
    """What the other process says: how many messages it has received."""
    return Message(MessageType.APP_RESP, to=to, sender=sender, term=7, index=received)


class Node:
    """The sockets of a node and a poll."""

    def __init__(self, config: NodeConfig, context: zmq.Context[Any]) -> None:
        self.network = PeerNetwork(config, 1, context=context)
        self.other = 3 - config.node_id
        self.me = config.node_id
        self._poller = zmq.Poller()
        for source in self.network.sockets():
            self._poller.register(source, zmq.POLLIN)

    def receive(self, wait_ms: int = 1_000) -> list[Message]:
        """What has arrived, after a wait when nothing has."""
        return self.network.receive(256) or (self.network.receive(256) if self._poller.poll(wait_ms) else [])

    def connect(self) -> None:
        """Wait for the greetings of both sides."""
        deadline = time.monotonic() + _CONNECT_S
        while self.network.connected() != {self.other}:
            if time.monotonic() > deadline:
                raise SystemExit(f"the two processes did not connect: {self.network.drops}")
            self.receive(20)


def echo(config: NodeConfig, stop: Event) -> None:
    """The other process: confirms each batch it takes with the number of messages so far."""
    with zmq.Context[Any]() as context:
        node = Node(config, context)
        received = 0
        while not stop.is_set():
            messages = node.receive(50)
            if messages:
                received += len(messages)
                node.network.send([answer(node.other, node.me, received)])
        node.network.close()


@contextmanager
def two_processes() -> Iterator[Node]:
    """This process's node, connected to one in a process of its own."""
    with ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(4)]
        for holder in holders:
            # Bound without listening: kept from everybody but the sockets that the nodes bind.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
        ports = [holder.getsockname()[1] for holder in holders]
        members = tuple(
            Member(
                node_id=node_id,
                peer_address=f"127.0.0.1:{ports[2 * node_id - 2]}",
                client_address=f"127.0.0.1:{ports[2 * node_id - 1]}",
            )
            for node_id in (1, 2)
        )
        config = NodeConfig(cluster_id=1, node_id=1, data_dir=Path(), members=members)
        spawn = multiprocessing.get_context("spawn")
        stop = spawn.Event()
        child = spawn.Process(target=echo, args=(dataclasses.replace(config, node_id=2), stop))
        child.start()
        stack.callback(child.join)
        stack.callback(stop.set)
        context = stack.enter_context(zmq.Context[Any]())
        node = Node(config, context)
        stack.callback(node.network.close)
        node.connect()
        yield node


def round_trips(node: Node, value_bytes: int, seconds: float) -> list[float]:
    """Sorted round trip times in microseconds."""
    message = append(node.other, node.me, value_bytes)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        node.network.send([message])
        while not node.receive():
            pass
        times.append((time.perf_counter() - began) * 1e6)
    return sorted(times)


def rate(node: Node, value_bytes: int, batch: int, seconds: float) -> float:
    """Confirmed messages a second, `batch` of them in each frame."""
    messages = [append(node.other, node.me, value_bytes)] * batch
    while node.network.send(messages[:1]) or not (first := node.receive()):
        pass
    base = first[-1].index
    sent = confirmed = 0
    began = time.perf_counter()
    while time.perf_counter() < began + seconds or confirmed < sent:
        under_way = sent - confirmed
        if time.perf_counter() < began + seconds and under_way < _WINDOW_FRAMES * batch:
            sent += 0 if node.network.send(messages) else batch
            arrived = node.network.receive(256)
        else:
            arrived = node.receive()
        if arrived:
            confirmed = arrived[-1].index - base
    return sent / (time.perf_counter() - began)


def codec_us(message: Message, seconds: float) -> tuple[float, float]:
    """Microseconds to make a frame of one message, and to check and decode it."""
    envelope = Envelope(PeerKind.RAFT, 1, 2, 1, 1)
    gate = EnvelopeGate(cluster_id=1, node_id=2, peers=[1], kinds=frozenset(PeerKind), body_bytes_max=2**21)
    gate.confirm(1, 1)
    frame = encode_envelope(PEER_MAGIC, envelope, encode_messages([message]))

    def decode() -> None:
        header, body = gate.check(frame)
        decode_messages(body, to=header.to, sender=header.sender)

    def each_us(work: Callable[[], object]) -> float:
        count, began = 0, time.process_time()
        while time.process_time() - began < seconds:
            for _ in range(1_000):
                work()
            count += 1_000
        return (time.process_time() - began) / count * 1e6

    return each_us(lambda: encode_envelope(PEER_MAGIC, envelope, encode_messages([message]))), each_us(decode)


def measure(seconds: float, rounds: int) -> list[Figure]:
    """Every question, asked `rounds` times."""
    answers: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, message in (
            ("heartbeat", Message(MessageType.HEARTBEAT, to=2, sender=1, term=7, commit=99)),
            ("append of 100 B", append(2, 1, 100)),
        ):
            encode, decode = codec_us(message, seconds / 4)
            answers.setdefault((f"frame of one {name}: encode", "us"), []).append(encode)
            answers.setdefault((f"frame of one {name}: check, decode", "us"), []).append(decode)
        with two_processes() as node:
            for size in (100, 65_536):
                times = round_trips(node, size, seconds)
                answers.setdefault((f"round trip, {size} B, p50", "us"), []).append(median(times))
                answers.setdefault((f"round trip, {size} B, p99", "us"), []).append(percentile(times, 0.99) or 0.0)
            for size, batch in ((100, 1), (100, 16), (65_536, 1), (65_536, 16)):
                key = (f"one way, {size} B, {batch} a frame", "messages/s")
                answers.setdefault(key, []).append(rate(node, size, batch, seconds))
    return [
        Figure(question=question, value=median(values), unit=unit, rounds=tuple(values))
        for (question, unit), values in answers.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="how often all of it is repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    parameters: dict[str, Any] = {
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "window_frames": _WINDOW_FRAMES,
        **environment(Path()),
    }
    figures = measure(arguments.seconds, arguments.rounds)
    if arguments.json:
        rows = [dataclasses.asdict(figure) for figure in figures]
        json.dump({"title": "transport", "parameters": parameters, "figures": rows}, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    table = Table(title="Raft messages between two processes", box=box.SIMPLE_HEAD)
    table.add_column("question")
    for heading in ("median", "unit", "lowest", "highest"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for figure in figures:
        low, high = min(figure.rounds), max(figure.rounds)
        table.add_row(figure.question, f"{figure.value:,.1f}", figure.unit, f"{low:,.1f}", f"{high:,.1f}")
    console = Console()
    console.print(table)
    console.print(", ".join(f"{name}={value}" for name, value in parameters.items()), highlight=False)


if __name__ == "__main__":
    main()
