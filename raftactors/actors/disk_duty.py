"""What consensus does about a disk that is full or stalled: hand leadership over, refuse what cannot be finished."""

from __future__ import annotations

import logging
from collections.abc import Callable

from raftactors.actors.disk_health import DiskHealth, DiskState
from raftactors.config import RaftTiming
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.types import Role

log = logging.getLogger("raftactors.node")

FULL_STANDS_AFTER = 4
"""Election timeouts without a leader after which a node with a full disk stands for election."""


class DiskDuty:
    """Used by the consensus actor alone, on its thread. `transfer_target` names the best next leader, 0 if none is."""

    def __init__(self, *, node_id: int, raft: RawNode, timing: RaftTiming, transfer_target: Callable[[], int]) -> None:
        self._node_id = node_id
        self._raft = raft
        self._election_ticks = timing.election_ticks
        self._transfer_target = transfer_target
        # An append that takes two election timeouts has kept the followers waiting for long enough.
        self._health = DiskHealth(stall_ticks=2 * timing.election_ticks)
        self._handover_ticks = 0
        self._leads_unwell = False
        self._ticks = 0

    @property
    def state(self) -> DiskState:
        """The state of the disk at this tick."""
        return self._health.state(self._ticks)

    def set_full(self, is_full: bool) -> None:
        """The storage actor has found the disk full, or has room again."""
        if is_full:
            log.error("node %d: the disk is full: the node takes no writes until there is space", self._node_id)
        else:
            log.warning("node %d: the disk has space again", self._node_id)
        self._health.is_full = is_full

    def handed_out(self) -> None:
        """An append was given to the storage actor."""
        self._health.handed_out(self._ticks)

    def finished(self, count: int) -> None:
        """The `count` oldest appends are durable."""
        self._health.finished(count)

    def tick(self) -> None:
        """Hand leadership over when the disk fills up or stalls, and stand for no election until it is well.

        The node still hears, follows and votes, as far as its disk lets the votes out. A node with a full disk stands
        after all when nobody leads for long: with the disks of a majority full there are still reads to be answered.
        """
        self._ticks += 1
        state, raft = self.state, self._raft.raft
        unwell = state is not DiskState.OK and not raft.tracker.is_singleton
        if raft.role is not Role.LEADER:
            long = raft.election_elapsed_ticks >= FULL_STANDS_AFTER * self._election_ticks
            self._raft.abstain(unwell and not (long and state is DiskState.FULL))
        if raft.role is not Role.LEADER or not unwell:
            self._handover_ticks = 0
            self._leads_unwell = unwell
            return
        # Who was elected although its disk is full was the last choice; another handover would go in circles.
        target = 0 if self._leads_unwell and state is DiskState.FULL else self._transfer_target()
        if target and not self._handover_ticks:
            log.error("node %d: the disk is %s: leadership goes to node %d", self._node_id, state, target)
            self._raft.transfer_leader(target)
        if self._handover_ticks >= self._election_ticks:
            # Whoever was to take over did not: the others find a leader when no more heartbeats come.
            self._raft.step_down()
        self._handover_ticks += bool(target)

    def refuses(self, message: Message) -> bool:
        """Whether the disk is in no state for this message; for its sender it is lost on the way and sent again.

        A full disk still takes the empty entry of a new leader, without which there are no reads.
        """
        if self.state is not DiskState.FULL:
            return False
        return message.type == MessageType.SNAP or any(entry.data for entry in message.entries)

    def takes_proposals(self, *, leads: bool) -> bool:
        """Whether a client's write could be finished: not on a full disk, nor by a follower whose disk stalls."""
        return self.state is DiskState.OK or (self.state is DiskState.STALLED and leads)

    def takes_reads(self, *, leads: bool) -> bool:
        """Whether a client's read could be finished: a follower with an unwell disk does not get to apply so far."""
        return self.state is DiskState.OK or leads
