"""Who breaks things: each kind of fault strikes at times of its own, and everything ends with the faulty part."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from raftactors.core.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Role,
)
from raftactors.errors import ProposalDropped

if TYPE_CHECKING:
    from raftactors.testing.simulation.process import Process
    from raftactors.testing.simulation.simulation import Simulation

_EPOCH_MS = 1_700_000_000_000
_HOUR_MS = 3_600_000

_INTERVALS = {
    "partition": 8.0,
    "one_way": 8.0,
    "partial": 8.0,
    "power_cut": 6.0,
    "blackout": 12.0,
    "kill": 6.0,
    "pause": 6.0,
    "membership": 3.0,
    "transfer": 5.0,
    "campaign": 6.0,
    "forget": 6.0,
    "compaction": 0.7,
    "snapshot_busy": 6.0,
}
"""Election timeouts between two strikes of a fault at full strength, on average."""


_CALLS_BEFORE_CUT = (0, 0, 0, 1, 1, 1, 1, 2, 3, 5, 8)
"""Calls to the disk before a write is cut off; one, so that what was written is not synced, is the worst."""


class Nemesis:
    """Draws the time of each strike from a generator of that fault's own."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        plan = world.plan
        self._strikes: dict[str, Callable[[], None]] = {
            "partition": self._partition,
            "one_way": self._one_way,
            "partial": self._partial,
            "power_cut": self._power_cut,
            "blackout": self._blackout,
            "kill": self._kill,
            "pause": self._pause,
            "membership": self._membership,
            "transfer": self._transfer,
            "campaign": self._campaign,
            "forget": self._forget,
            "compaction": self._compact,
            "snapshot_busy": self._snapshot_busy,
        }
        self._rngs = {kind: plan.random(kind) for kind in (*self._strikes, "disk", "clock", "restart")}
        self._slow_disks = {node_id for node_id in plan.nodes if self._rngs["disk"].random() < 0.2}
        rng, skew = self._rngs["clock"], plan.strength("skew")
        self._rates = {node_id: 1 + skew * rng.uniform(-0.4, 0.8) for node_id in plan.nodes}
        self._clock_offsets_ms = {node_id: round(skew * rng.uniform(-_HOUR_MS, _HOUR_MS)) for node_id in plan.nodes}

    def start(self) -> None:
        """Begin with every fault of the plan."""
        for kind in self._strikes:
            if self._world.plan.strength(kind):
                self._later(kind)

    def _later(self, kind: str) -> None:
        plan = self._world.plan
        mean_us = _INTERVALS[kind] * plan.election_us / (0.2 + plan.strength(kind))
        delay_us = 1 + round(self._rngs[kind].expovariate(1 / mean_us))
        self._world.schedule.after(delay_us, kind, 0, self._strike, kind)

    def _strike(self, kind: str) -> None:
        if not self._world.faulty:
            return
        self._world.coverage.count(kind)
        self._strikes[kind]()
        self._later(kind)

    # --- what is asked of it --------------------------------------------------------------------------------------

    def clock_rate(self, node_id: int) -> float:
        """How much longer than it should be a tick of this node is."""
        return self._rates[node_id] if self._world.faulty else 1.0

    def wall_clock_ms(self, node_id: int) -> int:
        """What this node takes for the time of day."""
        return _EPOCH_MS + self._world.schedule.now_us // 1_000 + self._clock_offsets_ms[node_id]

    def sync_us(self, node_id: int) -> int:
        """How long the next write takes."""
        world, rng = self._world, self._rngs["disk"]
        duration_us = 20 + rng.randrange(world.plan.disk_us)
        if world.strength("slow_disk") and node_id in self._slow_disks:
            duration_us += rng.randrange(world.plan.election_us // 2)
        if rng.random() < 0.3 * world.strength("slow_disk"):
            world.coverage.count("slow_disk")
            duration_us += rng.randrange(2 * world.plan.election_us)
        return duration_us

    # --- the network ----------------------------------------------------------------------------------------------

    def _cut(self, kind: str, links: set[tuple[int, int]]) -> None:
        self._world.network.blocked |= links
        election_us = self._world.plan.election_us
        longest = self._rngs[kind].choice((2.0, 6.0, 15.0))
        delay_us = round(self._rngs[kind].uniform(0.2, longest) * election_us)
        self._world.schedule.after(delay_us, "heal", 0, self._heal, links)

    def _heal(self, links: set[tuple[int, int]]) -> None:
        self._world.network.blocked -= links

    def _partition(self) -> None:
        rng, nodes = self._rngs["partition"], self._world.plan.nodes
        side = {node_id for node_id in nodes if rng.random() < 0.5}
        self._cut("partition", {(a, b) for a in nodes for b in nodes if (a in side) != (b in side)})

    def _one_way(self) -> None:
        rng, nodes = self._rngs["one_way"], self._world.plan.nodes
        leader = self._leader()
        source = leader.node_id if leader is not None and rng.random() < 0.5 else rng.choice(nodes)
        links = {(source, node_id) for node_id in nodes if node_id != source and rng.random() < 0.8}
        self._cut("one_way", links if rng.random() < 0.5 else {(b, a) for a, b in links})

    def _partial(self) -> None:
        rng, nodes = self._rngs["partial"], self._world.plan.nodes
        self._cut("partial", {(a, b) for a in nodes for b in nodes if a != b and rng.random() < 0.3})

    # --- the machines ---------------------------------------------------------------------------------------------

    def _victim(self, kind: str) -> int:
        rng = self._rngs[kind]
        leader = self._leader()
        if leader is not None and rng.random() < 0.4:
            return leader.node_id
        return rng.choice(self._world.plan.nodes)

    def _power_cut(self) -> None:
        self._end("power_cut", self._victim("power_cut"), power=True)

    def _kill(self) -> None:
        self._end("kill", self._victim("kill"), power=False)

    def _blackout(self) -> None:
        for node_id in self._world.plan.nodes:
            self._end("blackout", node_id, power=True)

    def _end(self, kind: str, node_id: int, *, power: bool) -> None:
        process = self._world.processes.get(node_id)
        if process is None:
            return
        # Most of the time nothing is being written and nobody is elected; but those are the moments worth striking.
        dice, doom = self._rngs[kind].random(), partial(self._end_now, kind, node_id, power=power)
        if dice < 0.2:
            process.doom_as_leader = partial(self._end_and_return, kind, node_id, power=power)
        elif dice < 0.65 and not process.storage.writing:
            process.doom = doom
        else:
            self._end_now(kind, node_id, power=power)

    def _end_now(self, kind: str, node_id: int, *, power: bool) -> None:
        rng = self._rngs[kind]
        if self._world.crash(node_id, power=power, after_calls=rng.choice(_CALLS_BEFORE_CUT)):
            longest = rng.choice((0.2, 1.0, 4.0))
            delay_us = round(rng.uniform(0.02, longest) * self._world.plan.election_us)
            self._world.schedule.after(delay_us, "start", node_id, self._world.start, node_id)

    def _end_and_return(self, kind: str, node_id: int, *, power: bool) -> None:
        """A new leader goes down, and asks for votes again before anybody else does."""
        world, rng = self._world, self._rngs[kind]
        if world.crash(node_id, power=power, after_calls=rng.choice(_CALLS_BEFORE_CUT)):
            delay_us = rng.randrange(world.plan.election_us // 4)
            world.schedule.after(delay_us, "start", node_id, world.start, node_id)
            world.schedule.after(2 * delay_us + 1, "campaign again", node_id, self._campaign_at, node_id)

    def _campaign_at(self, node_id: int) -> None:
        process = self._world.processes.get(node_id)
        if process is not None and self._world.faulty:
            process.run("campaign", process.raw.campaign, ())

    def cuts_recovery(self) -> int:
        """After how many calls to the disk the power goes again during a start; -1 if it does not."""
        rng = self._rngs["restart"]
        if rng.random() < 0.5 * self._world.strength("recovery_cut"):
            self._world.coverage.count("recovery_cut")
            return rng.randrange(60)
        return -1

    def _pause(self) -> None:
        process = self._world.processes.get(self._victim("pause"))
        if process is not None:
            duration_us = round(self._rngs["pause"].uniform(0.1, 5.0) * self._world.plan.election_us)
            process.pause()
            self._world.schedule.after(duration_us, "resume", process.node_id, process.resume)

    # --- what an operator may do ----------------------------------------------------------------------------------

    def _leader(self) -> Process | None:
        leaders = [process for process in self._world.processes.values() if process.soft.role is Role.LEADER]
        return max(leaders, key=lambda process: process.raw.raft.term, default=None)

    def _any(self, kind: str) -> Process | None:
        return self._world.processes.get(self._rngs[kind].choice(self._world.plan.nodes))

    def keep_serviceable(self) -> None:
        """What an operator does in peace: leave a joint membership, make fresh snapshots, let a voter lead.

        Reads hang in a joint membership whose halves are the leader alone, and under a leader that is no voter of a
        single one; and a snapshot from before a node was added is of no use to it.
        """
        world = self._world
        for process in tuple(world.processes.values()):
            process.run("compact", process.take_snapshot, ())
        leader = self._leader()
        if leader is not None and world.oracle.confs[-1][1].voters_outgoing:
            leader.run("membership", self._propose_change, (leader, ConfChangeV2()))
        voters = world.oracle.confs[-1][1].voters
        if leader is not None and voters and leader.node_id not in voters:
            leader.run("transfer", leader.raw.transfer_leader, (voters[0],))
        world.schedule.after(2 * world.plan.election_us, "service", 0, self.keep_serviceable)

    def _membership(self) -> None:
        rng, nodes = self._rngs["membership"], self._world.plan.nodes
        for _ in range(rng.choice((1, 1, 2, 3))):
            process = self._leader() or self._any("membership")
            if process is not None:
                process.run("membership", self._propose_change, (process, self._draw_change(nodes)))

    def _draw_change(self, nodes: tuple[int, ...]) -> ConfChange | ConfChangeV2:
        rng = self._rngs["membership"]
        kinds = (ConfChangeType.ADD_NODE, ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE,
                 ConfChangeType.ADD_LEARNER, ConfChangeType.UPDATE_NODE)  # fmt: skip
        dice = rng.random()
        if dice < 0.3:
            return ConfChange(rng.choice(kinds), rng.choice(nodes))
        count = 1 if dice < 0.6 else rng.randrange(4)
        singles = tuple(ConfChangeSingle(rng.choice(kinds), rng.choice(nodes)) for _ in range(count))
        return ConfChangeV2(singles, rng.choice(tuple(ConfChangeTransition)))

    @staticmethod
    def _propose_change(process: Process, change: ConfChange | ConfChangeV2) -> None:
        with suppress(ProposalDropped):
            process.raw.propose_conf_change(change)

    def _transfer(self) -> None:
        process, target = self._any("transfer"), self._rngs["transfer"].choice(self._world.plan.nodes)
        if process is not None:
            process.run("transfer", process.raw.transfer_leader, (target,))

    def _campaign(self) -> None:
        for _ in range(self._rngs["campaign"].choice((1, 2, 3))):
            self._campaign_at(self._rngs["campaign"].choice(self._world.plan.nodes))

    def _forget(self) -> None:
        process = self._any("forget")
        if process is not None:
            process.run("forget", process.raw.forget_leader, ())

    def _compact(self) -> None:
        process = self._any("compaction")
        if process is not None:
            process.run("compact", process.take_snapshot, ())

    def _snapshot_busy(self) -> None:
        process = self._any("snapshot_busy")
        if process is not None:
            process.log.busy = not process.log.busy
