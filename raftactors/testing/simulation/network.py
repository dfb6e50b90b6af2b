"""The network between the nodes: loss, delay, duplicates, reordering, replays, and links that are down."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from raftactors.core.messages import Message, MessageType

if TYPE_CHECKING:
    from raftactors.testing.simulation.process import Process
    from raftactors.testing.simulation.simulation import Simulation

_REMEMBERED_MESSAGES = 300
_REPORT_US = 2_000


class Network:
    """Directed links. `blocked` holds the links that are down, as (from, to)."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self._rng = world.plan.random("network")
        self._arrivals: dict[tuple[int, int], int] = {}
        self._old: deque[Message] = deque(maxlen=_REMEMBERED_MESSAGES)
        self.blocked: set[tuple[int, int]] = set()

    def send(self, process: Process, message: Message) -> None:
        """Take a message of a node, and let what may come of it come."""
        world, rng, source = self._world, self._rng, process.node_id
        link = (source, message.to)
        chance = world.strength
        lost = link in self.blocked
        if not lost and rng.random() < 0.3 * chance("loss"):
            world.coverage.count("loss")
            lost = True
        if lost:
            if message.type == MessageType.SNAP:
                process.soon(_REPORT_US, "snapshot lost", self._report_snapshot, process, message.to, False)
            elif chance("unreachable") and rng.random() < chance("unreachable"):
                world.coverage.count("unreachable")
                process.soon(_REPORT_US, "unreachable", self._report_unreachable, process, message.to)
            return
        self._carry(link, message)
        if message.type == MessageType.SNAP:
            world.coverage.count("snapshot_sent")
            delay_us = _REPORT_US + 4 * world.plan.delay_us
            process.soon(delay_us, "snapshot arrived", self._report_snapshot, process, message.to, True)
        if rng.random() < 0.2 * chance("duplicate"):
            world.coverage.count("duplicate")
            self._carry(link, message)
        if chance("replay"):
            self._old.append(message)
            if rng.random() < 0.05 * chance("replay"):
                again = self._old[rng.randrange(len(self._old))]
                world.coverage.count("replay")
                self._carry((again.sender, again.to), again)

    def _carry(self, link: tuple[int, int], message: Message) -> None:
        world, rng = self._world, self._rng
        delay_us = 50 + rng.randrange(world.plan.delay_us)
        if rng.random() < 0.1 * world.strength("delay"):
            world.coverage.count("delay")
            delay_us += rng.randrange(2 * world.plan.election_us)
        if world.strength("reorder"):
            if rng.random() < 0.5 * world.strength("reorder"):
                world.coverage.count("reorder")
                delay_us += rng.randrange(4 * world.plan.delay_us)
        else:
            arrival_us = max(world.schedule.now_us + delay_us, self._arrivals.get(link, 0))
            self._arrivals[link] = arrival_us
            delay_us = arrival_us - world.schedule.now_us
        world.schedule.after(delay_us, message.type.name, message.to, self._deliver, link, message)

    def _deliver(self, link: tuple[int, int], message: Message) -> None:
        process = self._world.processes.get(message.to)
        if process is None or link in self.blocked:
            return
        process.run(message.type.name, process.receive, (message,))

    @staticmethod
    def _report_snapshot(process: Process, node_id: int, ok: bool) -> None:
        process.raw.report_snapshot(node_id, ok)

    @staticmethod
    def _report_unreachable(process: Process, node_id: int) -> None:
        process.raw.report_unreachable(node_id)
