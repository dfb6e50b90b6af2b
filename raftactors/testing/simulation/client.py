"""A simulated client: a session, commands in flight, retries to whoever may know better, reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftactors.codec import frames
from raftactors.codec.frames import FrameKind, Level
from raftactors.codec.replies import (
    BusyReply,
    DocumentReply,
    RejectedReply,
    Reply,
    ResultsReply,
    ResultStatus,
    RetryReply,
    TooLargeReply,
    decode_reply,
)
from raftactors.testing.simulation.violation import Violation, require

if TYPE_CHECKING:
    from raftactors.testing.simulation.simulation import Simulation

_ATTEMPTS_MAX = 12
_DONE = frozenset(
    {ResultStatus.OK, ResultStatus.APPLICATION_ERROR, ResultStatus.UNKNOWN_METHOD, ResultStatus.ARGUMENTS}
)


class Work:
    """One frame until it is answered. `attempts` counts how often it left, `request` numbers the last one."""

    __slots__ = ("attempts", "calls", "first_sequence", "kind", "request", "sent_us")

    def __init__(self, kind: FrameKind, first_sequence: int, calls: list[bytes]) -> None:
        self.kind = kind
        self.first_sequence = first_sequence
        self.calls = calls
        self.attempts = 0
        self.request = 0
        self.sent_us = 0


class SimulatedClient:
    """Thinks, asks, waits, asks again. What it is told goes to the oracle."""

    def __init__(self, world: Simulation, number: int) -> None:
        self.number = number
        self.writes_done = 0
        self.reads_done = 0
        self._world = world
        self._rng = world.plan.random(f"client {number}")
        self._session = 0
        self._sequence = 1
        self._acked = 0
        self._open: Work | None = None
        self._commands: list[Work] = []
        self._waiting: dict[int, Work] = {}
        self._requests = 0
        self._unique = 0
        self._target = self._rng.choice(world.plan.nodes)
        self._window = self._rng.choice((1, 1, 2, 4))
        self._retry_us = round(world.plan.election_us * self._rng.choice((0.3, 1.0, 2.0)))

    def think(self) -> None:
        """Ask something, if there is room, and think again later."""
        world, rng = self._world, self._rng
        mean_us = world.plan.think_us if world.faulty else world.plan.election_us // 3
        delay_us = 1 + round(rng.expovariate(1 / mean_us))
        world.schedule.after(delay_us, "think", 0, self.think)
        if rng.random() < 0.4:
            self._send(Work(FrameKind.QUERIES, 0, [self._call(query=True)]))
        elif not self._session:
            if self._open is None:
                self._open = Work(FrameKind.OPEN_SESSION, 0, [])
                self._send(self._open)
        elif rng.random() < 0.03:
            kind = FrameKind.KEEP_ALIVE if rng.random() < 0.5 else FrameKind.CLOSE_SESSION
            self._send(Work(kind, 0, []))
            if kind is FrameKind.CLOSE_SESSION:
                self._forget_session()
        elif len(self._commands) < self._window:
            calls = [self._call(query=False) for _ in range(rng.choice((1, 1, 1, 3)))]
            work = Work(FrameKind.COMMANDS, self._sequence, calls)
            self._sequence += len(calls)
            self._commands.append(work)
            self._send(work)

    def _call(self, *, query: bool) -> bytes:
        workload, rng = self._world.workload, self._rng
        self._unique += 1
        call = workload.query(rng) if query else workload.command(rng, f"{self.number}.{self._unique}")
        return frames.encode_call(call.method, call.arguments)

    # --- sending --------------------------------------------------------------------------------------------------

    def _send(self, work: Work) -> None:
        world = self._world
        self._waiting.pop(work.request, None)
        if work.attempts >= _ATTEMPTS_MAX and world.faulty:
            self._give_up(work)
            return
        self._requests += 1
        work.attempts += 1
        work.request = self._requests
        work.sent_us = world.schedule.now_us
        if work.attempts > 1:
            world.coverage.count("client_retry")
        self._waiting[work.request] = work
        body = self._encode(work)
        world.submit(self._target, self.number, work.request, int(work.kind), bytes(memoryview(body)[8:]))
        patience_us = round(self._retry_us * self._rng.uniform(0.7, 1.5))
        if not world.faulty:  # An impatient crowd could keep a slow cluster busy for ever.
            patience_us = max(patience_us, world.plan.election_us) * min(work.attempts, 3)
        world.schedule.after(patience_us, "retry", 0, self._overdue, work, work.request)

    def _encode(self, work: Work) -> bytes:
        if work.kind is FrameKind.QUERIES:
            return frames.encode_queries(work.request, level=Level.LINEARIZABLE, queries=work.calls)
        if work.kind is FrameKind.COMMANDS:
            return frames.encode_commands(
                work.request,
                session=self._session,
                first_sequence=work.first_sequence,
                acked=self._acked,
                commands=work.calls,
            )
        if work.kind is FrameKind.OPEN_SESSION:
            return frames.encode_open_session(work.request)
        if work.kind is FrameKind.CLOSE_SESSION:
            return frames.encode_close_session(work.request, self._session)
        return frames.encode_keep_alive(work.request, session=self._session, acked=self._acked)

    def _overdue(self, work: Work, request: int) -> None:
        if self._waiting.get(request) is work:
            self._target = self._somebody()
            self._send(work)

    def _somebody(self) -> int:
        """Any node; without faults one that answers, as a client finds out soon."""
        world = self._world
        return self._rng.choice(world.plan.nodes if world.faulty else sorted(world.processes) or world.plan.nodes)

    def _give_up(self, work: Work) -> None:
        """Nobody knows what became of it; a gap in the sequences would block the session, so a new one begins."""
        self._world.coverage.count("unknown_outcome")
        if work is self._open:
            self._open = None
        if work.kind is FrameKind.COMMANDS:
            self._forget_session()

    def _forget_session(self) -> None:
        for work in self._commands:
            self._waiting.pop(work.request, None)
        self._commands.clear()
        self._session, self._sequence, self._acked = 0, 1, 0

    # --- answers --------------------------------------------------------------------------------------------------

    def receive(self, request: int, body: bytes) -> None:
        """A node answers. Answers to attempts that were repeated since are ignored."""
        work = self._waiting.get(request)
        if work is None:
            return
        reply = decode_reply(body)
        if isinstance(reply, BusyReply | RetryReply):
            self._refused(work, reply)
            return
        del self._waiting[request]
        if reply.leader_id and self._rng.random() < 0.5:
            self._target = reply.leader_id
        if work.kind is FrameKind.QUERIES:
            self._on_answer(work, reply)
        elif work.kind is FrameKind.COMMANDS:
            self._on_results(work, reply)
        elif work.kind is FrameKind.OPEN_SESSION:
            self._on_opened(work, reply)

    def _refused(self, work: Work, reply: BusyReply | RetryReply) -> None:
        if isinstance(reply, BusyReply):
            self._world.coverage.count("client_busy")
            if work.kind is FrameKind.COMMANDS and work.attempts == 1 and self._rng.random() < 0.5:
                # It left once and was not taken: nothing happened, and that is for good.
                self._fail(work, range(len(work.calls)), "busy")
                self._forget_session()
                return
        self._target = reply.leader_id or self._somebody()
        delay_us = 1 + self._rng.randrange(self._world.plan.election_us)
        self._world.schedule.after(delay_us, "again", 0, self._overdue, work, work.request)

    def _fail(self, work: Work, places: range, reason: str) -> None:
        self._world.coverage.count("definite_failure")
        for place in places:
            self._world.oracle.fail((self._session, work.first_sequence + place), reason)

    def _on_opened(self, work: Work, reply: Reply) -> None:
        require(isinstance(reply, DocumentReply), "protocol", "an open session answers %s", reply)
        if work is self._open and isinstance(reply, DocumentReply) and isinstance(reply.document, int):
            self._open = None
            self._session, self._sequence, self._acked = reply.document, 1, 0
            self._world.oracle.confirm(reply.index, self._world.schedule.now_us)

    def _on_answer(self, work: Work, reply: Reply) -> None:
        if not isinstance(reply, ResultsReply):
            raise Violation("protocol", f"a query answers {reply}")
        world = self._world
        required = world.oracle.confirmed_at(work.sent_us - world.staleness_us)
        ((status, content),) = reply.results
        world.oracle.check_query(work.calls[0], reply.index, required, (int(status), bytes(content)))
        if not world.staleness_us:
            world.oracle.confirm(reply.index, world.schedule.now_us)
        self.reads_done += 1

    def _on_results(self, work: Work, reply: Reply) -> None:
        if not isinstance(reply, ResultsReply) or isinstance(reply, RejectedReply | TooLargeReply):
            raise Violation("protocol", f"a command answers {reply}")
        world = self._world
        for place, (status, content) in enumerate(reply.results):
            name = (self._session, work.first_sequence + place)
            if status in _DONE:
                world.oracle.check_result(name, reply.index, (int(status), bytes(content)))
            elif status == ResultStatus.SESSION_EXPIRED:
                world.coverage.count("session_expired")
                if work.attempts == 1:
                    self._fail(work, range(place, len(work.calls)), "session expired")
                self._forget_session()
                return
            elif status == ResultStatus.ALREADY_ACKED:
                raise Violation("already_acked", f"command {name} was never acknowledged by its client")
            else:
                world.coverage.count("out_of_order")
                self._try_later(work)
                return
        self.writes_done += 1
        world.oracle.confirm(reply.index, world.schedule.now_us)
        self._commands.remove(work)
        if not self._commands:
            self._acked = self._sequence - 1
        else:
            self._acked = self._commands[0].first_sequence - 1

    def _try_later(self, work: Work) -> None:
        self._waiting[work.request] = work
        delay_us = 1 + self._rng.randrange(self._world.plan.election_us // 2)
        if not self._world.faulty and work is not self._commands[0]:
            delay_us += 2 * self._world.plan.election_us  # The one in front of it comes first.
        self._world.schedule.after(delay_us, "again", 0, self._overdue, work, work.request)
