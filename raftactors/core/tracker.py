"""The membership in force, and what is known of each member."""

from __future__ import annotations

from collections.abc import Mapping

from raftactors.core.inflights import Inflights
from raftactors.core.progress import Progress
from raftactors.core.quorum import VoteResult, joint_vote_result, majority_value
from raftactors.core.types import ConfState


class Tracker:
    """Membership, progress by member id (in ascending order), and the votes of the election under way."""

    __slots__ = (
        "_conf",
        "inflight_bytes_max",
        "inflight_messages_max",
        "is_singleton",
        "progress",
        "voter_ids",
        "votes",
    )

    def __init__(self, inflight_messages_max: int, inflight_bytes_max: int) -> None:
        self.inflight_messages_max = inflight_messages_max
        self.inflight_bytes_max = inflight_bytes_max
        self.votes: dict[int, bool] = {}
        self.switch(ConfState(), {})

    def conf_state(self) -> ConfState:
        """The membership in force."""
        return self._conf

    def switch(self, conf: ConfState, progress: Mapping[int, Progress]) -> None:
        """Take over a new membership and the progress of its members."""
        self._conf = conf
        self.progress = {node_id: progress[node_id] for node_id in sorted(progress)}
        self.voter_ids = tuple(sorted({*conf.voters, *conf.voters_outgoing}))
        # With one voter and no second half, this voter alone is the quorum.
        self.is_singleton = len(conf.voters) == 1 and not conf.voters_outgoing

    def new_inflights(self) -> Inflights:
        """An empty window with the configured limits."""
        return Inflights(self.inflight_messages_max, self.inflight_bytes_max)

    def restart_progress(self, node_id: int, last_index: int) -> None:
        """Forget what is known of the members' logs, and the votes: a new term or role begins.

        Everybody is probed from behind `last_index`; `node_id` (this node) holds its own log.
        """
        self.votes = {}
        for member_id, old in self.progress.items():
            self.progress[member_id] = Progress(
                match=last_index if member_id == node_id else 0,
                next=last_index + 1,
                inflights=self.new_inflights(),
                is_learner=old.is_learner,
            )

    def committed_index(self) -> int:
        """The largest index that a quorum of voters (of both halves, if joint) is known to hold durably."""
        progress = self.progress
        conf = self._conf
        index = majority_value([progress[voter].match for voter in conf.voters])
        if conf.voters_outgoing:
            return min(index, majority_value([progress[voter].match for voter in conf.voters_outgoing]))
        return index

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Count `votes` (by node id) among the voters."""
        return joint_vote_result(self._conf.voters, self._conf.voters_outgoing, votes)

    def record_vote(self, node_id: int, granted: bool) -> VoteResult:
        """Note the first answer of `node_id` in this election, and count."""
        self.votes.setdefault(node_id, granted)
        return self.vote_result(self.votes)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard of since the last time this was asked (thesis section 6.2)."""
        active = {node_id: p.recent_active for node_id, p in self.progress.items() if not p.is_learner}
        return self.vote_result(active) is VoteResult.WON
