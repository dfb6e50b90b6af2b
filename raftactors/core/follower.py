"""What a follower does with messages. Candidates take what comes from a leader the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raftactors.core import membership
from raftactors.core.config import ReadOnlyOption
from raftactors.core.election import CampaignKind, handle_hup
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import NONE, ReadState, Snapshot
from raftactors.errors import ProposalDropped

if TYPE_CHECKING:
    from raftactors.core.raft import Raft

_NO_SNAPSHOT = Snapshot()


def accept_append(raft: Raft, message: Message) -> None:
    """Append the leader's entries if the one before them matches (Raft paper Figure 2, AppendEntries)."""
    log = raft.log
    previous_index, entries = message.index, message.entries
    if previous_index < log.committed:
        # Everything up to the commit index agrees with every leader's log, so this much can be acknowledged at once.
        _respond(raft, message, log.committed)
        return
    if not _is_well_formed(message):
        raft.logger.warning("node %d drops a malformed append from %d", raft.node_id, message.sender)
        return
    if not log.matches(message.log_term, previous_index):
        _refuse_append(raft, message)
        return
    last_new = previous_index + len(entries)
    fresh = log.first_conflict(entries) if previous_index < log.last_index() else 0
    if fresh < len(entries):
        log.append(entries[fresh:] if fresh else entries)
    log.commit_to(min(message.commit, last_new))
    _respond(raft, message, last_new)


def accept_heartbeat(raft: Raft, message: Message) -> None:
    """Learn of the commit index, and confirm the leader for the reads that wait."""
    commit = message.commit
    if commit > raft.log.last_index():
        # A leader only names what this node has acknowledged: what was durable here once is gone.
        raft.logger.error(
            "node %d was told that entry %d is committed, but its log ends at %d: it has lost data",
            raft.node_id,
            commit,
            raft.log.last_index(),
        )
        commit = raft.log.last_index()
    raft.log.commit_to(commit)
    raft.messages.append(
        Message(MessageType.HEARTBEAT_RESP, message.sender, raft.node_id, raft.term, context=message.context)
    )


def accept_snapshot(raft: Raft, message: Message) -> None:
    """Restore the leader's snapshot if it brings anything new, and say how far the log reaches."""
    snapshot = message.snapshot or _NO_SNAPSHOT
    if membership.restore(raft, snapshot):
        raft.logger.info("node %d restored the snapshot at index %d", raft.node_id, snapshot.index)
        _respond(raft, message, raft.log.last_index())
    else:
        raft.logger.info("node %d ignores the snapshot at index %d", raft.node_id, snapshot.index)
        _respond(raft, message, raft.log.committed)


def _is_well_formed(message: Message) -> bool:
    """Whether the entries follow the one before them; the ends are looked at, the gate checks each one."""
    entries = message.entries
    return not entries or (
        entries[0].index == message.index + 1
        and entries[-1].index == message.index + len(entries)
        and message.log_term <= entries[0].term <= entries[-1].term <= message.term
    )


def _refuse_append(raft: Raft, message: Message) -> None:
    log = raft.log
    hint_index, hint_term = log.agreeing_entry(min(message.index, log.last_index()), message.log_term)
    raft.logger.debug(
        "node %d refuses entries behind %d of term %d; the logs may agree up to %d of term %d",
        raft.node_id,
        message.index,
        message.log_term,
        hint_index,
        hint_term,
    )
    raft.respond_after_append(
        Message(
            MessageType.APP_RESP,
            message.sender,
            raft.node_id,
            raft.term,
            log_term=hint_term,
            index=message.index,
            reject=True,
            reject_hint=hint_index,
        )
    )


def _respond(raft: Raft, message: Message, index: int) -> None:
    raft.messages_after_append.append(Message(MessageType.APP_RESP, message.sender, raft.node_id, raft.term, 0, index))


def _hear_leader(handle: Callable[[Raft, Message], None]) -> Callable[[Raft, Message], None]:
    """The leader lives: the election timeout starts anew."""

    def handler(raft: Raft, message: Message) -> None:
        raft.election_elapsed_ticks = 0
        raft.leader_id = message.sender
        handle(raft, message)

    return handler


def _forward_proposal(raft: Raft, message: Message) -> None:
    if raft.leader_id == NONE:
        raft.logger.info("node %d has no leader at term %d, a proposal is dropped", raft.node_id, raft.term)
        raise ProposalDropped(f"no leader is known at term {raft.term}; offer it again after the election")
    if raft.config.disable_proposal_forwarding:
        raft.logger.info("node %d does not forward proposals to leader %d", raft.node_id, raft.leader_id)
        raise ProposalDropped(f"this node forwards no proposals; offer it to the leader, node {raft.leader_id}")
    _forward(raft, message, term=0)


def _forward_read(raft: Raft, message: Message) -> None:
    if raft.leader_id == NONE:
        raft.logger.info("node %d has no leader at term %d, a read is dropped", raft.node_id, raft.term)
    else:
        _forward(raft, message, term=0)


def _forward_transfer(raft: Raft, message: Message) -> None:
    if raft.leader_id == NONE:
        raft.logger.info("node %d has no leader at term %d, a transfer is dropped", raft.node_id, raft.term)
    else:
        _forward(raft, message, term=raft.term)


def _forward(raft: Raft, message: Message, *, term: int) -> None:
    """Pass a request on to the leader. Its origin stays, so that the answer, or the transfer, goes there."""
    raft.messages.append(message._replace(to=raft.leader_id, sender=message.sender or raft.node_id, term=term))


def _forget_leader(raft: Raft, message: Message) -> None:
    if raft.config.read_only_option is ReadOnlyOption.LEASE_BASED:
        raft.logger.error("node %d cannot forget its leader, whose reads rely on the lease", raft.node_id)
    elif raft.leader_id != NONE:
        raft.logger.info("node %d forgets leader %d at term %d", raft.node_id, raft.leader_id, raft.term)
        raft.leader_id = NONE


def _take_over(raft: Raft, message: Message) -> None:
    raft.logger.info("node %d is asked by %d to take over at term %d", raft.node_id, message.sender, raft.term)
    # Transfers skip the pre-vote: the old leader is about to step down, nobody is disturbed.
    handle_hup(raft, CampaignKind.TRANSFER)


def _answer_read(raft: Raft, message: Message) -> None:
    if len(message.entries) != 1:
        raft.logger.error("node %d drops a read answer from %d without a context", raft.node_id, message.sender)
        return
    raft.read_states.append(ReadState(message.index, message.entries[0].data or b""))


HANDLERS = {
    MessageType.PROP: _forward_proposal,
    MessageType.APP: _hear_leader(accept_append),
    MessageType.HEARTBEAT: _hear_leader(accept_heartbeat),
    MessageType.SNAP: _hear_leader(accept_snapshot),
    MessageType.TRANSFER_LEADER: _forward_transfer,
    MessageType.FORGET_LEADER: _forget_leader,
    MessageType.TIMEOUT_NOW: _take_over,
    MessageType.READ_INDEX: _forward_read,
    MessageType.READ_INDEX_RESP: _answer_read,
}
