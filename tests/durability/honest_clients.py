"""Processes full of honest clients: each writes numbered entries to a ledger in a session, reads, and keeps account.

One process holds many clients; a campaign starts a few of them (spawned, so that no socket or thread is inherited).
"""

from __future__ import annotations

import heapq
import multiprocessing
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from random import Random
from types import TracebackType
from typing import NamedTuple, Self

from raftactors.client import Client, Reply

CLIENT_TIMEOUT_MS = 90_000
"""Longer than any outage of a campaign, so that no write is left with an unknown outcome."""

BURST_MAX = 8
THINKING_S = (0.2, 1.5)
HURRY_S = (0.0, 0.05)
HURRIED_EVERY = 20
"""One client of so many hardly thinks, so that there is always something under way in every queue."""
FINISH_TIMEOUT_S = 120.0
_TELL_S = 0.2
READ_PART = 1_000


@dataclass(slots=True)
class Record:
    """What one client did. Numbers run from 0 to `sent` - 1 in the order in which they were sent."""

    writer: str
    sent: int = 0
    acknowledged: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    reads: int = 0
    reads_wrong: list[str] = field(default_factory=list)

    def note(self, number: int | None, reply: Reply) -> None:
        """How the write of a number ended, or (None) the read of the last number that was sent."""
        error = reply.error()
        if number is None:
            self.reads += error is None
            # After a write that failed nobody knows which numbers are there.
            if error is None and not self.failed and reply.get() != [self.sent - 1]:
                self.reads_wrong.append(f"{self.writer} wrote {self.sent - 1} and read {reply.get()}")
        elif error is None:
            self.acknowledged.append(number)
        else:
            self.failed[number] = f"{type(error).__name__}: {error}"


class _End(NamedTuple):
    """The end of a request: which client, which number (None: a read) and how it ended."""

    client: int
    number: int | None
    reply: Reply


class Crowd:
    """Clients that write a burst, wait for it, read what they wrote last, think for a while and begin again."""

    def __init__(self, addresses: Sequence[str], cluster_id: int, writers: Sequence[str], seed: int) -> None:
        self._rng = Random(seed)
        self.records = [Record(writer) for writer in writers]
        self._clients = [Client(addresses, cluster_id=cluster_id, timeout_ms=CLIENT_TIMEOUT_MS) for _ in writers]
        self._waiting = [0] * len(writers)
        self._ended: queue.SimpleQueue[_End] = queue.SimpleQueue()
        now_s = time.monotonic()
        self._due = [(now_s + self._rng.random(), index) for index in range(len(writers))]
        heapq.heapify(self._due)

    @property
    def acknowledged(self) -> int:
        """Acknowledged writes of all."""
        return sum(len(record.acknowledged) for record in self.records)

    def go_on(self, for_s: float) -> None:
        """Let the clients do what is due for so long."""
        deadline_s = time.monotonic() + for_s
        while (now_s := time.monotonic()) < deadline_s:
            while self._due and self._due[0][0] <= now_s:
                self._write(heapq.heappop(self._due)[1])
            until_s = min(deadline_s, self._due[0][0]) if self._due else deadline_s
            self._take(until_s - now_s, then=self._after)

    def finish(self) -> None:
        """Begin nothing new, and wait for what is under way. Raises AssertionError if that never ends."""
        deadline_s = time.monotonic() + FINISH_TIMEOUT_S
        while any(self._waiting):
            assert time.monotonic() < deadline_s, f"{sum(self._waiting)} requests never came to an end"
            self._take(1.0)

    def close(self) -> None:
        """Close all clients."""
        for client in self._clients:
            client.close()

    def _write(self, index: int) -> None:
        record, client = self.records[index], self._clients[index]
        burst = self._rng.randint(1, BURST_MAX)
        self._waiting[index] += burst
        for _ in range(burst):
            number, record.sent = record.sent, record.sent + 1
            client.submit("append", record.writer, number).add_done_callback(partial(self._note, index, number))

    def _read(self, index: int) -> None:
        record = self.records[index]
        self._waiting[index] += 1
        reply = self._clients[index].submit_query("part", record.writer, record.sent - 1, 2)
        reply.add_done_callback(partial(self._note, index, None))

    def _note(self, index: int, number: int | None, reply: Reply) -> None:
        """In the client's thread, which must not wait."""
        self._ended.put(_End(index, number, reply))

    def _take(self, timeout_s: float, *, then: Callable[[_End], None] | None = None) -> None:
        """Take the end of one request, if one comes in time; `then` is called when its client waits for no other."""
        try:
            end = self._ended.get(timeout=max(timeout_s, 0.001))
        except queue.Empty:
            return
        self.records[end.client].note(end.number, end.reply)
        self._waiting[end.client] -= 1
        if then is not None and not self._waiting[end.client]:
            then(end)

    def _after(self, end: _End) -> None:
        """A burst is followed by a read of its last number, a read by a pause and another burst."""
        if end.number is not None:
            self._read(end.client)
        else:
            thinking = THINKING_S if end.client % HURRIED_EVERY else HURRY_S
            heapq.heappush(self._due, (time.monotonic() + self._rng.uniform(*thinking), end.client))


def work(pipe: Connection, addresses: Sequence[str], cluster_id: int, writers: Sequence[str], seed: int) -> None:
    """The whole life of a process: tells the number of acknowledged writes again and again, until it is sent anything.

    Then it finishes and sends its records. It ends as well when the other side of the pipe closes.
    """
    crowd = Crowd(addresses, cluster_id, writers, seed)
    try:
        while not pipe.poll():
            crowd.go_on(_TELL_S)
            pipe.send(crowd.acknowledged)
        pipe.recv()
        crowd.finish()
        pipe.send(crowd.records)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        crowd.close()


class Crowds:
    """`clients` honest clients in `processes` processes; `with` ends them whatever happens."""

    def __init__(self, addresses: Sequence[str], cluster_id: int, *, clients: int, processes: int, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        names = [f"writer-{number}" for number in range(clients)]
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._told = [0] * processes
        for share in range(processes):
            here, there = context.Pipe()
            arguments = (there, list(addresses), cluster_id, names[share::processes], seed + share)
            process = context.Process(target=work, args=arguments, name=f"honest-{share}")
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(FINISH_TIMEOUT_S)
            process.kill()
            process.join()

    def listen(self) -> int:
        """Acknowledged writes so far."""
        for share, pipe in enumerate(self._pipes):
            while pipe.poll():
                try:
                    self._told[share] = pipe.recv()
                except (EOFError, ConnectionResetError):
                    break
        return sum(self._told)

    def died(self) -> list[str]:
        """Processes that ended although nobody asked them to: a client must not take its process along."""
        return [
            f"{process.name}: exit code {process.exitcode}"
            for process in self._processes
            if process.exitcode is not None
        ]

    def finish(self) -> list[Record]:
        """Stop writing, wait for what is under way, and return the records of all clients whose process lives."""
        records: list[Record] = []
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send("finish")
        for pipe in self._pipes:
            with suppress(EOFError, ConnectionResetError):
                while not isinstance(told := pipe.recv(), list):
                    continue
                records += told
        return records


@dataclass(slots=True)
class Verdict:
    """What the ledger says about all records."""

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    reads: int = 0
    reads_wrong: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.acknowledged > 0 and not (self.lost or self.twice or self.disordered or self.reads_wrong)


def judge(records: Sequence[Record], client: Client) -> Verdict:
    """Read everything back: each acknowledged number is there once and in order, every other at most once."""
    verdict = Verdict()
    for record in records:
        executed: list[int] = []
        while part := client.query("part", record.writer, len(executed), READ_PART):
            executed += part
        present = set(executed)
        verdict.sent += record.sent
        verdict.acknowledged += len(record.acknowledged)
        verdict.failed += len(record.failed)
        verdict.lost += len(set(record.acknowledged) - present)
        verdict.twice += len(executed) - len(present)
        verdict.disordered += sum(later < earlier for earlier, later in pairwise(executed))
        verdict.reads += record.reads
        verdict.reads_wrong += len(record.reads_wrong)
        verdict.examples += [*record.failed.values()][:1] + record.reads_wrong[:1]
        assert present <= set(range(record.sent)), f"numbers that {record.writer} never sent"
    return verdict
