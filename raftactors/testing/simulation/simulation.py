"""One run: a cluster, its clients and their troubles in one thread, in virtual time, drawn from one seed."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from raftactors.core.config import Logger, ReadOnlyOption
from raftactors.core.messages import Message
from raftactors.core.types import Role
from raftactors.errors import InvariantViolation, RaftActorsError
from raftactors.storage import PowerCut
from raftactors.testing.simulation.checks import Checks
from raftactors.testing.simulation.client import SimulatedClient
from raftactors.testing.simulation.coverage import Coverage
from raftactors.testing.simulation.disk import SimulatedDisk
from raftactors.testing.simulation.membership_model import members
from raftactors.testing.simulation.memory_log import SILENCE
from raftactors.testing.simulation.nemesis import Nemesis
from raftactors.testing.simulation.network import Network
from raftactors.testing.simulation.oracle import Oracle
from raftactors.testing.simulation.plan import Plan
from raftactors.testing.simulation.process import Process
from raftactors.testing.simulation.schedule import Event, Schedule
from raftactors.testing.simulation.violation import Violation, require
from raftactors.testing.simulation.workload import KeyValueWorkload, Workload

HEAL_ELECTIONS = 50
"""Election timeouts within which a cluster without faults must serve and agree again."""

SERVED_AT_LEAST = 10
"""Writes, and reads, that must succeed after the faults."""

HEAL_EVENTS_MAX = 200_000
"""No healthy cluster needs so many events; more of them would be a storm."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `rule` and `text` say what was broken, both empty if nothing was.

    `digest` is over every event: equal runs, equal digests. `fault_events` of the `events` came before the peace.
    """

    seed: int
    rule: str
    text: str
    events: int
    fault_events: int
    virtual_ms: int
    digest: str
    seconds: float
    coverage: Counter[str]

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.rule


class Simulation:
    """The world of one run. `faulty` is true until the faults end."""

    def __init__(
        self, plan: Plan, workload: Workload | None = None, trace: Callable[[str], None] | None = None
    ) -> None:
        self.plan = plan
        self.workload = KeyValueWorkload() if workload is None else workload
        self.trace = trace
        self.faulty = True
        self.schedule = Schedule()
        self.coverage = Coverage()
        self.oracle = Oracle(self.workload, plan.limits)
        self.checks = Checks(self)
        self.nemesis = Nemesis(self)
        self.network = Network(self)
        self.disks = {
            node_id: SimulatedDisk(node_id, plan.random(f"disk {node_id}"), plan.limits.segment_bytes)
            for node_id in plan.nodes
        }
        self.processes: dict[int, Process] = {}
        self.clients = [SimulatedClient(self, number) for number in range(plan.clients)]
        self._client_rng = plan.random("client network")
        self._retired: set[int] = set()
        self._fault_events = 0
        self.staleness_us = _lease_staleness_us(plan)

    def logger(self, node_id: int) -> Logger:
        """Where the core's own words go."""
        return SILENCE

    def strength(self, kind: str) -> float:
        """How hard a fault strikes now."""
        return self.plan.strengths.get(kind, 0.0) if self.faulty else 0.0

    # --- nodes ----------------------------------------------------------------------------------------------------

    def start(self, node_id: int) -> None:
        """Start a node that is down, unless the power goes again on the way."""
        if node_id in self.processes or node_id in self._retired:
            return
        disk = self.disks[node_id]
        calls = self.nemesis.cuts_recovery()
        disk.files.cut_power(after_calls=calls)
        try:
            recovered = disk.open()
        except PowerCut:
            disk.crash(power=True)
            self.schedule.after(self.plan.election_us // 4, "start", node_id, self.start, node_id)
            return
        disk.files.cut_power(after_calls=-1)
        if recovered.torn:
            self.coverage.count("torn_batch")
        process = self.processes[node_id] = Process(self, disk, recovered)
        process.soon(process.rng.randrange(10_000), "tick", process.tick)

    def crash(self, node_id: int, *, power: bool, after_calls: int) -> bool:
        """End a node; a write under way is cut off after some calls to the disk. False if it was down."""
        process = self.processes.pop(node_id, None)
        if process is None:
            return False
        process.alive = False
        if process.storage.writing or process.storage.begin():
            batches = process.storage.batches()
            if batches:
                process.disk.cut_power_during(batches, after_calls)
                self.coverage.count("write_cut")
        process.disk.crash(power=power)
        return True

    # --- clients --------------------------------------------------------------------------------------------------

    def submit(self, node_id: int, client: int, request: int, kind: int, rest: bytes) -> None:
        """A client's frame on its way."""
        if self._lost():
            return
        delay_us = 50 + self._client_rng.randrange(self.plan.delay_us)
        self.schedule.after(delay_us, "frame", node_id, self._take, node_id, client, request, kind, rest)

    def _take(self, node_id: int, client: int, request: int, kind: int, rest: bytes) -> None:
        process = self.processes.get(node_id)
        if process is not None:
            process.run("frame", process.take, (client, request, kind, rest))

    def answer(self, node_id: int, client: int, request: int, body: bytes) -> None:
        """A node's answer on its way."""
        if self._lost():
            return
        delay_us = 50 + self._client_rng.randrange(self.plan.delay_us)
        self.schedule.after(delay_us, "answer", 0, self.clients[client].receive, request, body)

    def _lost(self) -> bool:
        if self._client_rng.random() < 0.4 * self.strength("client_loss"):
            self.coverage.count("client_loss")
            return True
        return False

    # --- the run --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Faults first, then peace. Raises Violation, or whatever the core raises when it is wrong."""
        for node_id in self.plan.nodes:
            self.start(node_id)
        for client in self.clients:
            self.schedule.after(self._client_rng.randrange(self.plan.election_us), "think", 0, client.think)
        self.nemesis.start()
        while self.schedule.now_us < self.plan.fault_us and self.schedule.count < self.plan.events_max:
            self._step()
        self._fault_events = self.schedule.count
        self._make_peace()
        self._heal()

    def _step(self) -> None:
        event = self.schedule.take()
        require(event is not None, "silence", "nothing is left to happen")
        assert event is not None
        if self.trace is not None:
            self.trace(_line(event))
        event.action(*event.arguments)
        self._witness(event)

    def _witness(self, event: Event) -> None:
        process = self.processes.get(event.node_id)
        state = ""
        if process is not None:
            raft = process.raw.raft
            log = raft.log
            state = f"{raft.term} {raft.vote} {log.last_index()} {log.committed} {log.applied}"
        content = ""
        if event.arguments and isinstance(event.arguments[-1], Message):
            message = event.arguments[-1]
            content = f"{message.sender} {message.term} {message.index} {message.commit} {len(message.entries)}"
        self.schedule.witness(f"{event.time_us} {event.node_id} {event.label} {state} {content}\n")

    def _make_peace(self) -> None:
        """End every fault; an operator starts what is down, and stops for good who is no member any more."""
        self.faulty = False
        self.network.blocked.clear()
        for process in tuple(self.processes.values()):
            process.log.busy = False
            process.resume()
        self.nemesis.keep_serviceable()
        for node_id in self.plan.nodes:
            self.schedule.after(1, "start", node_id, self.start, node_id)

    def _retire(self) -> None:
        """Stop the nodes that the last membership leaves out, once all that it names have taken it over."""
        since, current = self.oracle.confs[-1]
        for node_id in sorted(self._retired & members(current)):
            self._retired.remove(node_id)
            self.start(node_id)
        known = {process.node_id for process in self.processes.values() if process.raw.raft.log.applied >= since}
        if not current.voters or not members(current) <= known:
            return
        for node_id in self.plan.nodes:
            if node_id not in members(current) and node_id not in self._retired:
                self._retired.add(node_id)
                self.crash(node_id, power=False, after_calls=0)

    def _heal(self) -> None:
        began_us = self.schedule.now_us
        events_max = self.schedule.count + HEAL_EVENTS_MAX
        limit_us = began_us + HEAL_ELECTIONS * self.plan.election_us
        before = self._served()
        while not self._healed(before):
            if self.schedule.now_us >= limit_us or self.schedule.count >= events_max:
                if self._is_stranded():
                    self.coverage.count("stranded_by_change")
                    return
                raise Violation("liveness", self._why_not_healed(before))
            for _ in range(50):
                self._step()
            self._retire()
        self.coverage.counts["writes"], self.coverage.counts["reads"] = self._served()
        self.coverage.counts["entries"] = len(self.oracle.committed)
        self.coverage.counts["heal_elections"] = (self.schedule.now_us - began_us) // self.plan.election_us
        for process in self._members():
            self.checks.settled(process)

    def _served(self) -> tuple[int, int]:
        return sum(client.writes_done for client in self.clients), sum(client.reads_done for client in self.clients)

    def _members(self) -> list[Process]:
        current = members(self.oracle.confs[-1][1])
        return [process for process in self.processes.values() if process.node_id in current]

    def _healed(self, before: tuple[int, int]) -> bool:
        writes, reads = self._served()
        if writes < before[0] + SERVED_AT_LEAST or reads < before[1] + SERVED_AT_LEAST:
            return False
        applied = [process.host.applied_index for process in self._members()]
        leaders = [process for process in self._members() if process.raw.raft.role is Role.LEADER]
        # New writes keep coming, so "equal" means: nobody is further behind than what is under way.
        return len(leaders) == 1 and min(applied) >= len(self.oracle.committed) - 2 * len(self.clients) - 2

    def _is_stranded(self) -> bool:
        """Whether nobody leads, and some of those who stay do not know of the last change of the membership.

        A leader that removed or demoted itself, and lost its leadership before it told everybody that this is
        committed, leaves two kinds of nodes. Those with the longest logs refuse their votes to the others, but have
        no vote to win themselves: they are out, or do not know yet that they are in. Raft has no way out of this
        (thesis 4.2.2 has the leader go on instead), and etcd's library none either.
        """
        since = self.oracle.confs[-1][0]
        staying = self._members()
        return all(process.raw.raft.role is not Role.LEADER for process in staying) and any(
            process.raw.raft.log.committed < since for process in staying
        )

    def _why_not_healed(self, before: tuple[int, int]) -> str:
        writes, reads = self._served()
        states = [
            f"{process.node_id}: {process.raw.raft.role.value} of term {process.raw.raft.term}, last "
            f"{process.raw.raft.log.last_index()}, committed {process.raw.raft.log.committed}, applied "
            f"{process.host.applied_index}"
            for process in self.processes.values()
        ]
        return (
            f"{HEAL_ELECTIONS} election timeouts after the faults {writes - before[0]} writes and "
            f"{reads - before[1]} reads succeeded; members {self.oracle.confs[-1][1]}; {'; '.join(states)}"
        )

    def outcome(self) -> Outcome:
        """Run, and tell how it ended."""
        started = time.perf_counter()
        rule = text = ""
        try:
            self.run()
        except Violation as violation:
            rule, text = violation.rule, str(violation)
        except InvariantViolation as violation:
            rule, text = "core_invariant", f"core_invariant: {violation}{_place(violation)}"
        except (RaftActorsError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            rule, text = type(error).__name__, f"{type(error).__name__}: {error}{_place(error)}"
        return Outcome(
            seed=self.plan.seed,
            rule=rule,
            text=text,
            events=self.schedule.count,
            fault_events=self._fault_events or self.schedule.count,
            virtual_ms=self.schedule.now_us // 1_000,
            digest=self.schedule.digest(),
            seconds=time.perf_counter() - started,
            coverage=self.coverage.totals(),
        )


def _lease_staleness_us(plan: Plan) -> int:
    """How old what a read sees may be; 0 unless reads rely on the lease.

    A leader does not notice at once that it lost its quorum: an election timeout until the check begins to count, one
    more until it has counted. Slow clocks and pauses make that longer, which is why the lease is not the default.
    """
    if plan.raft.read_only_option is not ReadOnlyOption.LEASE_BASED:
        return 0
    return plan.election_us * (12 if plan.strength("pause") or plan.strength("skew") else 4)


def _line(event: Event) -> str:
    arguments = ", ".join(_short(argument) for argument in event.arguments)
    return f"{event.time_us / 1_000:10.3f} node {event.node_id} {event.label} {arguments}"


def _short(argument: object) -> str:
    text = repr(argument)
    return text if len(text) <= 200 else text[:197] + "..."


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({frame.filename.rpartition('/')[2]}:{frame.lineno})"
