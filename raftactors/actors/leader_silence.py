"""How close a follower has come to an election: the longest time in which it heard nothing of its leader."""

from __future__ import annotations

from raftactors.core.raw_node import RawNode
from raftactors.core.types import NONE, Role


class LeaderSilence:
    """Counts in ticks, as elections do. `ticks_max` is of the present leader; 0 if there is none, or it is this node.

    A leader sends a heartbeat every `heartbeat_ticks`, so what comes on top of that is delay.
    """

    def __init__(self, raft: RawNode) -> None:
        self._raft = raft
        self._of = (0, NONE)
        self.ticks_max = 0

    def tick(self) -> None:
        """Look once, after the core has counted the tick."""
        raft = self._raft.raft
        leader = (raft.term, raft.leader_id)
        if leader != self._of or raft.role is Role.LEADER or raft.leader_id == NONE:
            self._of, self.ticks_max = leader, 0
            return
        self.ticks_max = max(self.ticks_max, raft.election_elapsed_ticks)
