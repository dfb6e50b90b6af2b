"""Campaigns and votes (thesis sections 3.4, 3.10, 9.6), the same for every role."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from raftactors.core.messages import CAMPAIGN_TRANSFER, Message, MessageType
from raftactors.core.types import NONE, Role

if TYPE_CHECKING:
    from raftactors.core.raft import Raft


class CampaignKind(Enum):
    """Why, and with which right, a node campaigns."""

    PRE_ELECTION = "pre-election"
    ELECTION = "election"
    TRANSFER = "transfer"


def handle_hup(raft: Raft, kind: CampaignKind) -> None:
    """Campaign, unless this node leads already, may not lead, or does not know the membership it has committed."""
    if raft.role is Role.LEADER:
        raft.logger.debug("node %d leads already, no campaign", raft.node_id)
    elif not raft.promotable():
        raft.logger.warning("node %d may not be promoted, no campaign", raft.node_id)
    elif raft.log.has_unapplied_conf_change():
        raft.logger.warning(
            "node %d has committed membership changes to apply, no campaign at term %d", raft.node_id, raft.term
        )
    else:
        raft.logger.info("node %d starts a campaign (%s) at term %d", raft.node_id, kind.value, raft.term)
        campaign(raft, kind)


def campaign(raft: Raft, kind: CampaignKind) -> None:
    """Ask every voter, of both halves, for its vote; the own vote counts once it is durable."""
    if kind is CampaignKind.PRE_ELECTION:
        raft.become_pre_candidate()
        request, response = MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP
        term = raft.term + 1
    else:
        raft.become_candidate()
        request, response = MessageType.VOTE, MessageType.VOTE_RESP
        term = raft.term
    last_index, last_term = raft.log.last_index(), raft.log.last_term()
    context = CAMPAIGN_TRANSFER if kind is CampaignKind.TRANSFER else b""
    for voter in raft.tracker.voter_ids:
        if voter == raft.node_id:
            raft.respond_after_append(Message(response, voter, raft.node_id, term))
            continue
        raft.logger.info(
            "node %d (last entry %d of term %d) asks node %d for its vote (%s) at term %d",
            raft.node_id,
            last_index,
            last_term,
            voter,
            kind.value,
            term,
        )
        raft.messages.append(
            Message(request, voter, raft.node_id, term, log_term=last_term, index=last_index, context=context)
        )


def handle_vote_request(raft: Raft, message: Message) -> None:
    """Grant or refuse a vote. Learners vote too: they may be voters already and not know it yet.

    A vote is free if it was given to this candidate before, if it was not given and no leader of the term is known,
    or if it is only a pre-vote for a later term. It goes to candidates with a log at least as complete.
    """
    is_pre_vote = message.type == MessageType.PRE_VOTE
    response = MessageType.PRE_VOTE_RESP if is_pre_vote else MessageType.VOTE_RESP
    free = (
        raft.vote == message.sender
        or (raft.vote == NONE and raft.leader_id == NONE)
        or (is_pre_vote and message.term > raft.term)
    )
    granted = free and raft.log.is_up_to_date(message.log_term, message.index)
    raft.logger.info(
        "node %d (term %d, vote %d, last entry %d) %s %s to %d, which has entry %d of term %d, at term %d",
        raft.node_id,
        raft.term,
        raft.vote,
        raft.log.last_index(),
        "grants" if granted else "refuses",
        message.type.name,
        message.sender,
        message.index,
        message.log_term,
        message.term,
    )
    if granted:
        # The answer names the term that was asked for: after a pre-vote the own term may be lower.
        raft.respond_after_append(Message(response, message.sender, raft.node_id, message.term))
        if not is_pre_vote:
            raft.election_elapsed_ticks = 0
            raft.vote = message.sender
    else:
        raft.respond_after_append(Message(response, message.sender, raft.node_id, raft.term, reject=True))
