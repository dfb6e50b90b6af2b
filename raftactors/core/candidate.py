"""What candidates and pre-candidates do with messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raftactors.core import follower, replication
from raftactors.core.election import CampaignKind, campaign
from raftactors.core.messages import Message, MessageType
from raftactors.core.quorum import VoteResult
from raftactors.core.types import NONE, Role
from raftactors.errors import ProposalDropped

if TYPE_CHECKING:
    from raftactors.core.raft import Raft


def _drop_proposal(raft: Raft, message: Message) -> None:
    raft.logger.info("node %d has no leader at term %d, a proposal is dropped", raft.node_id, raft.term)
    raise ProposalDropped(f"no leader is known at term {raft.term}; offer it again after the election")


def _follow(handle: Callable[[Raft, Message], None]) -> Callable[[Raft, Message], None]:
    """Somebody else leads this term: become its follower first."""

    def handler(raft: Raft, message: Message) -> None:
        raft.become_follower(message.term, message.sender)
        handle(raft, message)

    return handler


def _count_vote(raft: Raft, message: Message) -> None:
    result = raft.tracker.record_vote(message.sender, not message.reject)
    votes = raft.tracker.votes
    granted = sum(votes.values())
    raft.logger.info(
        "node %d received %s from %d (%s); %d granted, %d refused so far",
        raft.node_id,
        message.type.name,
        message.sender,
        "refused" if message.reject else "granted",
        granted,
        len(votes) - granted,
    )
    if result is VoteResult.WON:
        if raft.role is Role.PRE_CANDIDATE:
            campaign(raft, CampaignKind.ELECTION)
        else:
            raft.become_leader()
            replication.broadcast_append(raft)
    elif result is VoteResult.LOST:
        raft.become_follower(raft.term, NONE)


_COMMON = {
    MessageType.PROP: _drop_proposal,
    MessageType.APP: _follow(follower.accept_append),
    MessageType.HEARTBEAT: _follow(follower.accept_heartbeat),
    MessageType.SNAP: _follow(follower.accept_snapshot),
}

# Only answers to the present question count: a late pre-vote says nothing about the election.
CANDIDATE_HANDLERS = {**_COMMON, MessageType.VOTE_RESP: _count_vote}
PRE_CANDIDATE_HANDLERS = {**_COMMON, MessageType.PRE_VOTE_RESP: _count_vote}
