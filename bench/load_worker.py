"""One process of the load that `throughput.py` puts on a raftactors cluster. Not started by hand.

Reads its orders as one line of JSON from standard input, connects, prints `ready`, waits for one more line, drives the
cluster for the warm-up and the measured period, and prints its counts as one line of JSON. Every latency goes to a file
as a native double, in milliseconds. Each connection is a client with its own session and a closed loop of `inflight`
commands.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from array import array
from dataclasses import asdict, dataclass
from functools import partial

import zmq

from raftactors.client import Client, ClientOptions
from raftactors.client.reply import Reply
from raftactors.codec.msgpack import pack

_ERRORS_MAX = 100
_TIMEOUT_MS = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one process is to do. `keys` is how many keys each connection goes round."""

    addresses: list[str]
    cluster_id: int
    connections: list[int]
    inflight: int
    value_bytes: int
    keys: int
    warmup_seconds: float
    seconds: float
    latencies_file: str


@dataclass(slots=True)
class Counts:
    """What came of it: acknowledged in the measured period, in all, and what got no result."""

    writes: int = 0
    writes_in_all: int = 0
    errors: int = 0
    first_error: str = ""


class Connection:
    """One client and its closed loop. After the start everything happens in the client's own thread."""

    def __init__(self, orders: Orders, number: int, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        options = ClientOptions(timeout_ms=_TIMEOUT_MS)
        self.client = Client(orders.addresses, cluster_id=orders.cluster_id, options=options, context=context)
        self.counts = Counts()
        self.latencies_ms = array("d")
        self.idle = threading.Event()
        self.from_s = self.to_s = float("inf")
        value = b"v" * orders.value_bytes
        # Packed before the measurement, as h2load's body is.
        self._commands = [pack(("put", (f"{number}/{key}", value), {})) for key in range(orders.keys)]
        self._inflight = orders.inflight
        self._sent = 0

    def connect(self) -> None:
        """Make one write, so that the session is open and the leader known."""
        self.client.submit_packed(self._commands[0]).get()
        self.counts.writes_in_all += 1

    def start(self) -> None:
        """Put the first commands in flight; each answer sends the next one."""
        lanes = self._inflight
        for _ in range(lanes):
            self._send()

    def _send(self) -> None:
        self._sent += 1
        command = self._commands[self._sent % len(self._commands)]
        self.client.submit_packed(command, on_done=partial(self._done, time.perf_counter()))

    def _done(self, sent_s: float, reply: Reply) -> None:
        now_s, counts = time.perf_counter(), self.counts
        if reply.ok:
            counts.writes_in_all += 1
            if self.from_s <= now_s < self.to_s:
                counts.writes += 1
                self.latencies_ms.append((now_s - sent_s) * 1000)
        else:
            counts.errors += 1
            counts.first_error = counts.first_error or repr(reply.error())
        if now_s < self.to_s and counts.errors < _ERRORS_MAX:
            self._send()
        else:
            self._inflight -= 1
            if not self._inflight:
                self.idle.set()


def run(orders: Orders) -> Counts:
    """Carry the orders out."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    connections = [Connection(orders, number, context) for number in orders.connections]
    for connection in connections:
        connection.connect()
    print("ready", flush=True)
    sys.stdin.readline()
    begin_s = time.perf_counter() + orders.warmup_seconds
    for connection in connections:
        connection.from_s, connection.to_s = begin_s, begin_s + orders.seconds
        connection.start()
    total = Counts()
    with open(orders.latencies_file, "wb") as file:
        for connection in connections:
            connection.idle.wait(orders.warmup_seconds + orders.seconds + 2 * _TIMEOUT_MS / 1000)
            connection.client.close()
            connection.latencies_ms.tofile(file)
            counts = connection.counts
            total.writes += counts.writes
            total.writes_in_all += counts.writes_in_all
            total.errors += counts.errors
            total.first_error = total.first_error or counts.first_error
    context.term()
    return total


if __name__ == "__main__":
    print(json.dumps(asdict(run(Orders(**json.loads(sys.stdin.readline()))))), flush=True)
