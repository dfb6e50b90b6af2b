"""A cluster and its network in virtual time, as bad as a seed makes them, in front of one real session engine.

The nodes share one real `ApplicationHost`: what is in the log is applied once, in log order. What lies before it is
unreliable: frames are lost, doubled, delayed and overtaken, nodes go down, lead, refuse and forward.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import NamedTuple

from raftactors.app.application import Application, command, query
from raftactors.app.host import ApplicationHost
from raftactors.client.connection import SessionEngine
from raftactors.client.options import ClientOptions
from raftactors.client.reply import Reply
from raftactors.client.route import Route
from raftactors.codec import frames, replies
from raftactors.codec.batch import encode_batch
from raftactors.codec.frames import FrameKind, Welcome
from raftactors.codec.msgpack import pack
from raftactors.config import Limits
from raftactors.core.types import Entry, EntryType

CLUSTER_ID = 7
POISON = b"poison"


class Journal(Application):
    """Remembers what was executed, in order."""

    def __init__(self) -> None:
        self.executed: list[int] = []

    @command
    def append(self, number: int, padding: bytes) -> int:
        """Note the number; the place it got is the result."""
        self.executed.append(number)
        return len(self.executed)

    @query
    def length(self) -> int:
        """How many were executed."""
        return len(self.executed)


class Faults(NamedTuple):
    """Probabilities of what may go wrong, per frame or per chance."""

    lose: float = 0.0
    double: float = 0.0
    delay_ms_max: int = 5
    busy: float = 0.0
    retry_before: float = 0.0
    retry_after: float = 0.0
    forward: float = 0.5
    move_leader: float = 0.0
    node_down: float = 0.0
    expire_session: float = 0.0
    reject: float = 0.0
    reply_bytes_max: int = 2**20


class SimulatedCluster:
    """Three nodes, one client session, one clock that only `run` moves."""

    def __init__(
        self,
        seed: int,
        faults: Faults,
        *,
        limits: Limits | None = None,
        claimed_limits: Limits | None = None,
        session_ttl_ms: int = 60_000,
    ) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.limits = limits or Limits(session_ttl_ms=session_ttl_ms)
        self.claimed_limits = claimed_limits or self.limits
        self.journal = Journal()
        self.host = ApplicationHost(self.journal, limits=self.limits, node_id=1)
        self.now_ms = 1_000
        self.leader_id = 1
        self.down: set[int] = set()
        self.addresses = {node_id: f"node{node_id}:1" for node_id in (1, 2, 3)}
        self.taken: list[FrameKind] = []
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._hello_numbers = itertools.count(1)
        self._last_session = 0
        options = ClientOptions(frames_inflight_max=4)
        self.route = Route(
            list(self.addresses.values()), options=options, random_source=self.random, cluster_id=CLUSTER_ID
        )
        self.engine = SessionEngine(slot=1, route=self.route, options=options, random_source=self.random)
        self._poll_at_ms: int | None = None

    # --- the caller's side ---

    def submit(self, number: int, *, timeout_ms: int = 10_000, padding: bytes = b"", query: bool = False) -> Reply:
        """Hand a command or a query to the engine."""
        call = ["length", [], {}] if query else ["append", [number, padding], {}]
        reply = Reply(pack(call), self.now_ms + timeout_ms, level=int(query))
        self.engine.submit(reply)
        self._poll_soon(0)
        return reply

    def at(self, time_ms: int, action: Callable[[], None]) -> None:
        """Do something at a virtual time."""
        heapq.heappush(self.events, (time_ms, next(self._order), action))

    def run(self, until_ms: int) -> None:
        """Let everything happen up to a time."""
        while self.events and self.events[0][0] <= until_ms:
            time_ms, _, action = heapq.heappop(self.events)
            self.now_ms = max(self.now_ms, time_ms)
            action()
        self.now_ms = until_ms

    # --- the driver's part ---

    def _poll_soon(self, delay_ms: int) -> None:
        time_ms = self.now_ms + delay_ms
        if self._poll_at_ms is None or time_ms < self._poll_at_ms:
            self._poll_at_ms = time_ms
            self.at(time_ms, self._poll)

    def _poll(self) -> None:
        if self._poll_at_ms is None or self._poll_at_ms > self.now_ms:
            return  # A later poll was asked for meanwhile, or this one was done.
        self._poll_at_ms = None
        outgoing = self.engine.poll(self.now_ms)
        ready = self.route.ready
        for kind, body in outgoing:
            assert ready is not None
            self._transmit(ready.address, kind, body)
        for address in self.route.poll(self.now_ms):
            self._transmit(address, FrameKind.HELLO, frames.encode_hello(next(self._hello_numbers) << 8, "test"))
        wake_at_ms = min(self.engine.next_wakeup_ms(), self.route.next_wakeup_ms() or 2**62)
        if wake_at_ms < 2**62:
            self._poll_soon(max(1, wake_at_ms - self.now_ms))

    def _transmit(self, address: str, kind: FrameKind, body: bytes) -> None:
        self._carry(lambda: self._arrive(address, kind, body))

    def _carry(self, deliver: Callable[[], None]) -> None:
        """The network, in either direction."""
        if self.random.random() < self.faults.lose:
            return
        copies = 2 if self.random.random() < self.faults.double else 1
        for _ in range(copies):
            self.at(self.now_ms + self.random.randint(1, self.faults.delay_ms_max), deliver)

    # --- the nodes' part ---

    def _arrive(self, address: str, kind: FrameKind, body: bytes) -> None:
        node_id = next(node_id for node_id, known in self.addresses.items() if known == address)
        self._misbehave()
        if node_id in self.down:
            return
        request, rest = frames.split_request(body)
        if kind == FrameKind.HELLO:
            welcome = Welcome(
                node_id,
                self.leader_id,
                list(self.addresses.items()),
                {
                    "session_ttl_ms": self.claimed_limits.session_ttl_ms,
                    "session_inflight_max": self.claimed_limits.session_inflight_max,
                    "client_frame_bytes_max": self.claimed_limits.client_frame_bytes_max,
                    "command_bytes_max": self.claimed_limits.command_bytes_max,
                },
                "test:Journal",
                CLUSTER_ID,
            )
            self._carry(lambda: self._welcome(address, welcome))
            return
        self.taken.append(kind)
        answer = self._answer(node_id, kind, bytes(rest))
        if len(answer) <= self.faults.reply_bytes_max:
            self._carry(lambda: self._receive(request, answer))

    def _misbehave(self) -> None:
        chance = self.random.random
        if chance() < self.faults.move_leader:
            self.leader_id = self.random.choice([1, 2, 3])
        if chance() < self.faults.node_down:
            self.down = {self.random.choice([1, 2, 3])} if not self.down else set()
        if chance() < self.faults.expire_session and self._last_session:
            self.expire_session()

    def expire_session(self) -> None:
        """Evict the session, as the table does when it is full."""
        self._log(FrameKind.CLOSE_SESSION, frames.encode_close_session(0, self._last_session)[8:])

    def _answer(self, node_id: int, kind: FrameKind, rest: bytes) -> bytes:
        chance, leader_id = self.random.random, self.leader_id
        if POISON in rest or chance() < self.faults.reject:
            return replies.encode_rejected(leader_id, "poisoned")
        if leader_id in self.down:
            return replies.encode_retry(0)
        if node_id != leader_id and chance() >= self.faults.forward:
            return replies.encode_retry(leader_id)
        if chance() < self.faults.busy:
            return replies.encode_busy(leader_id, self.random.randint(1, 50))
        if chance() < self.faults.retry_before:
            return replies.encode_retry(self.random.choice([0, leader_id]))
        if kind == FrameKind.QUERIES:
            return self.host.query(self.host.applied_index, rest)
        answer = self._log(kind, rest)
        if chance() < self.faults.retry_after:
            return replies.encode_retry(leader_id)
        return answer

    def _log(self, kind: FrameKind, rest: bytes) -> bytes:
        batch = encode_batch(
            [(1, bytes((kind,)) + rest)], origin_node=1, origin_incarnation=1, timestamp_ms=self.now_ms
        )
        entry = Entry(1, self.host.applied_index + 1, batch, EntryType.NORMAL)
        self.host.leader_id = self.leader_id
        answer = self.host.apply(entry, origin_incarnation=1)[0][1]
        if kind == FrameKind.OPEN_SESSION:
            self._last_session = self.host.applied_index << 16
        return answer

    def _welcome(self, address: str, welcome: Welcome) -> None:
        self.route.welcome(address, welcome, 1, self.now_ms)
        self._poll_soon(0)

    def _receive(self, request: int, answer: bytes) -> None:
        self.engine.receive(request, answer, self.now_ms)
        self._poll_soon(0)
