"""The rules about the terms of messages, which come before every role's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftactors.core.messages import CAMPAIGN_TRANSFER, Message, MessageType
from raftactors.core.types import NONE

if TYPE_CHECKING:
    from raftactors.core.raft import Raft

_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})


def meet_higher_term(raft: Raft, message: Message) -> bool:
    """Follow a message of a higher term; returns False if it is ignored (thesis sections 3.3, 4.2.3, 9.6)."""
    kind = message.type
    if kind in (MessageType.VOTE, MessageType.PRE_VOTE):
        forced = message.context == CAMPAIGN_TRANSFER
        if not forced and _holds_lease(raft):
            raft.logger.info(
                "node %d ignores %s from %d at term %d: it heard leader %d only %d ticks ago",
                raft.node_id,
                kind.name,
                message.sender,
                message.term,
                raft.leader_id,
                raft.election_elapsed_ticks,
            )
            return False
    if kind == MessageType.PRE_VOTE or (kind == MessageType.PRE_VOTE_RESP and not message.reject):
        # Neither a question about a future term nor the permission for one is a reason to enter it.
        return True
    raft.logger.info(
        "node %d (term %d) received %s with higher term %d from %d",
        raft.node_id,
        raft.term,
        kind.name,
        message.term,
        message.sender,
    )
    raft.become_follower(message.term, message.sender if kind in _FROM_LEADER else NONE)
    return True


def _holds_lease(raft: Raft) -> bool:
    """Whether a leader is known that was heard of, or is this node, within the shortest election timeout."""
    return (
        raft.config.check_quorum and raft.leader_id != NONE and raft.election_elapsed_ticks < raft.config.election_ticks
    )


def answer_stale(raft: Raft, message: Message) -> None:
    """A message of a lower term has no effect, but some senders have to learn the present term."""
    kind = message.type
    if kind in (MessageType.HEARTBEAT, MessageType.APP) and (raft.config.check_quorum or raft.config.pre_vote):
        # With either option this node's own higher-term campaign may be ignored by everybody, the stale leader
        # too: only this answer makes it step down, so that the node is not left out for ever.
        raft.respond_after_append(Message(MessageType.APP_RESP, message.sender, raft.node_id, raft.term))
    elif kind == MessageType.PRE_VOTE:
        # A node that fell behind while it campaigned would otherwise wait for this answer for ever.
        raft.respond_after_append(
            Message(MessageType.PRE_VOTE_RESP, message.sender, raft.node_id, raft.term, reject=True)
        )
    elif kind == MessageType.STORAGE_APPEND_RESP:
        # The entries may have been replaced in a later term; a snapshot, once stored, never is.
        if message.snapshot is not None:
            raft.snapshot_stored(message.snapshot.index)
    else:
        raft.logger.info(
            "node %d (term %d) ignores %s with lower term %d from %d",
            raft.node_id,
            raft.term,
            kind.name,
            message.term,
            message.sender,
        )
