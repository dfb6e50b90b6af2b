"""What a leader does with messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raftactors.core import replication
from raftactors.core.confchange import as_v2
from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.config import ReadOnlyOption
from raftactors.core.messages import Message, MessageType
from raftactors.core.progress import Progress, ProgressState
from raftactors.core.quorum import VoteResult
from raftactors.core.read_only import read_context
from raftactors.core.types import NONE, Entry, EntryType, ReadState
from raftactors.errors import ProposalDropped, WireError

if TYPE_CHECKING:
    from raftactors.core.raft import Raft

    Handler = Callable[[Raft, Message], None]

_EMPTY_ENTRY = Entry(0, 0, None)


# --- time -----------------------------------------------------------------------------------------------------------


def _beat(raft: Raft, message: Message) -> None:
    replication.broadcast_heartbeat(raft, raft.read_only.last_context())


def _check_quorum(raft: Raft, message: Message) -> None:
    """Step down if no quorum was heard of since the last check (thesis section 6.2)."""
    if not raft.tracker.quorum_active():
        raft.logger.warning("node %d heard of no quorum at term %d, it steps down", raft.node_id, raft.term)
        raft.become_follower(raft.term, NONE)
    for node_id, progress in raft.tracker.progress.items():
        if node_id != raft.node_id:
            progress.recent_active = False


# --- proposals ------------------------------------------------------------------------------------------------------


def _propose(raft: Raft, message: Message) -> None:
    """Append what is proposed and send it to everybody. Raises ProposalDropped if nothing was appended."""
    entries = message.entries
    if not entries:
        raise ProposalDropped("a proposal without an entry")
    if raft.node_id not in raft.tracker.progress:
        raise ProposalDropped(f"node {raft.node_id} leads but is no member any more; offer it to the next leader")
    if raft.transferee_id != NONE:
        raft.logger.debug("node %d transfers leadership to %d, a proposal is dropped", raft.node_id, raft.transferee_id)
        raise ProposalDropped(f"leadership is being transferred to node {raft.transferee_id}; offer it again")
    for entry in entries:
        if entry.type is not EntryType.NORMAL:
            entries = tuple([_screen(raft, each, position) for position, each in enumerate(entries)])
            break
    if not raft.append_entries(entries):
        raise ProposalDropped(
            f"{raft.uncommitted_bytes} bytes wait for their commit; offer it again when there are less"
        )
    replication.broadcast_append(raft)


def _screen(raft: Raft, entry: Entry, position: int) -> Entry:
    """Replace a membership change that may not be made now by an empty entry."""
    if entry.type is EntryType.NORMAL:
        return entry
    try:
        wants_leave = not as_v2(decode_conf_change(entry)).changes
    except WireError as error:
        raise ProposalDropped(f"the membership change cannot be read: {error}") from None
    joint = bool(raft.tracker.conf_state().voters_outgoing)
    refusal = ""
    if raft.pending_conf_index > raft.log.applied:
        refusal = f"the one at index {raft.pending_conf_index} may not be applied yet"
    elif joint and not wants_leave:
        refusal = "the joint configuration has to be left first"
    elif not joint and wants_leave:
        refusal = "there is no joint configuration to leave"
    if refusal and not raft.config.disable_conf_change_validation:
        raft.logger.info("node %d ignores a membership change: %s", raft.node_id, refusal)
        return _EMPTY_ENTRY
    raft.pending_conf_index = raft.log.last_index() + position + 1
    return entry


# --- acknowledgements -----------------------------------------------------------------------------------------------


def _append_response(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    if message.reject:
        _append_refused(raft, message, progress)
        return
    index, sender = message.index, message.sender
    if index > raft.log.last_index():
        raft.logger.warning("node %d drops an acknowledgement of %d from %d", raft.node_id, index, sender)
        return
    if not progress.advance_match(index) and not (progress.match == index and progress.state is ProgressState.PROBE):
        return
    if progress.state is ProgressState.REPLICATE:
        progress.inflights.free_up_to(index)
    elif progress.state is ProgressState.PROBE or progress.match + 1 >= raft.log.first_index():
        # Found where the logs agree; or the member reached what the log still holds, by whatever snapshot.
        raft.logger.debug("node %d replicates to %d from %d on", raft.node_id, sender, progress.match + 1)
        progress.enter_replicate()
    if raft.maybe_commit():
        _release_postponed_reads(raft)
        replication.broadcast_append(raft)
    elif sender != raft.node_id and progress.can_raise_commit(raft.log.committed):
        replication.send_append(raft, sender)
    if sender == raft.node_id:
        return
    replication.send_outstanding(raft, sender)
    if sender == raft.transferee_id and progress.match == raft.log.last_index():
        raft.logger.info("node %d: transfer target %d has caught up", raft.node_id, sender)
        replication.send_timeout_now(raft, sender)


def _append_refused(raft: Raft, message: Message, progress: Progress) -> None:
    hint = message.reject_hint
    if message.log_term:
        # Nothing later in this log can be in the member's either, which has no higher term up to its hint.
        hint, _ = raft.log.agreeing_entry(hint, message.log_term)
    raft.logger.debug(
        "node %d: %d refused entries behind %d, next probe behind %d", raft.node_id, message.sender, message.index, hint
    )
    if progress.reject(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.enter_probe()
        replication.send_append(raft, message.sender)


def _heartbeat_response(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    progress.flow_paused = False
    if progress.match < raft.log.last_index() or progress.state is ProgressState.PROBE:
        replication.send_append(raft, message.sender)
    if not message.context or raft.config.read_only_option is not ReadOnlyOption.SAFE:
        return
    acks = raft.read_only.acknowledge(message.context, message.sender)
    if acks is not None and raft.tracker.vote_result(acks) is VoteResult.WON:
        for read in raft.read_only.release_through(message.context):
            _answer_read(raft, read.request, read.index)


def _snapshot_status(raft: Raft, message: Message, progress: Progress) -> None:
    if progress.state is not ProgressState.SNAPSHOT:
        return
    if message.reject:
        # Probe from where the member was before.
        progress.pending_snapshot = 0
    progress.enter_probe()
    # A member that got it will acknowledge it; one that did not is tried again after a heartbeat.
    progress.flow_paused = True
    raft.logger.info(
        "node %d: snapshot to %d %s", raft.node_id, message.sender, "failed" if message.reject else "arrived"
    )


def _unreachable(raft: Raft, message: Message, progress: Progress) -> None:
    # What was sent optimistically is probably lost.
    if progress.state is ProgressState.REPLICATE:
        progress.enter_probe()
    raft.logger.debug("node %d: %d is unreachable", raft.node_id, message.sender)


# --- leadership transfer ----------------------------------------------------------------------------------------------


def _transfer(raft: Raft, message: Message, progress: Progress) -> None:
    """Begin to hand leadership over to the sender (thesis section 3.10). A transfer under way to another is dropped."""
    target = message.sender
    if progress.is_learner:
        raft.logger.debug("node %d transfers no leadership to learner %d", raft.node_id, target)
        return
    if raft.transferee_id != NONE:
        if raft.transferee_id == target:
            raft.logger.info("node %d transfers leadership to %d already", raft.node_id, target)
            return
        raft.logger.info("node %d gives up the transfer to %d for %d", raft.node_id, raft.transferee_id, target)
        raft.abort_transfer()
    if target == raft.node_id:
        raft.logger.debug("node %d leads already", raft.node_id)
        return
    raft.logger.info("node %d starts to transfer leadership to %d", raft.node_id, target)
    # The transfer has an election timeout of its own.
    raft.election_elapsed_ticks = 0
    raft.transferee_id = target
    if progress.match == raft.log.last_index():
        replication.send_timeout_now(raft, target)
    else:
        replication.send_append(raft, target)


# --- reads ------------------------------------------------------------------------------------------------------------


def _read_index(raft: Raft, message: Message) -> None:
    """Start a linearizable read (thesis section 6.4)."""
    if len(message.entries) != 1:
        raft.logger.warning("node %d drops a read from %d without a context", raft.node_id, message.sender)
    elif raft.tracker.is_singleton:
        _answer_read(raft, message, raft.log.committed)
    elif raft.has_committed_in_term():
        _confirm_read(raft, message)
    else:
        # Until then the leader does not know what its predecessors have committed.
        raft.postponed_reads.append(message)


def _confirm_read(raft: Raft, message: Message) -> None:
    committed = raft.log.committed
    if raft.config.read_only_option is ReadOnlyOption.LEASE_BASED:
        _answer_read(raft, message, committed)
        return
    context = read_context(message)
    raft.read_only.add(message, committed)
    raft.read_only.acknowledge(context, raft.node_id)
    replication.broadcast_heartbeat(raft, context)


def _release_postponed_reads(raft: Raft) -> None:
    if raft.postponed_reads and raft.has_committed_in_term():
        released, raft.postponed_reads = raft.postponed_reads, []
        for message in released:
            _confirm_read(raft, message)


def _answer_read(raft: Raft, request: Message, index: int) -> None:
    """Tell this node, or the one that asked, from which applied index on the read may be answered."""
    if request.sender in (NONE, raft.node_id):
        raft.read_states.append(ReadState(index, read_context(request)))
    else:
        raft.messages.append(
            Message(
                MessageType.READ_INDEX_RESP,
                request.sender,
                raft.node_id,
                raft.term,
                index=index,
                entries=request.entries,
            )
        )


def _from_member(handle: Callable[[Raft, Message, Progress], None]) -> Handler:
    """Look the sender's progress up; messages of others are dropped."""

    def handler(raft: Raft, message: Message) -> None:
        progress = raft.tracker.progress.get(message.sender)
        if progress is None:
            raft.logger.debug("node %d drops %s from %d, no member", raft.node_id, message.type.name, message.sender)
            return
        handle(raft, message, progress)

    return handler


HANDLERS: dict[MessageType, Handler] = {
    MessageType.BEAT: _beat,
    MessageType.CHECK_QUORUM: _check_quorum,
    MessageType.PROP: _propose,
    MessageType.READ_INDEX: _read_index,
    MessageType.APP_RESP: _from_member(_append_response),
    MessageType.HEARTBEAT_RESP: _from_member(_heartbeat_response),
    MessageType.SNAP_STATUS: _from_member(_snapshot_status),
    MessageType.UNREACHABLE: _from_member(_unreachable),
    MessageType.TRANSFER_LEADER: _from_member(_transfer),
}
