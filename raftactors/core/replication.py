"""What a leader sends to the other members (thesis sections 3.5, 5, 10.2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftactors.core.invariants import invariant
from raftactors.core.messages import Message, MessageType
from raftactors.core.progress import Progress, ProgressState
from raftactors.core.sizes import payloads_size
from raftactors.core.types import Entry
from raftactors.errors import SnapshotTemporarilyUnavailableError

if TYPE_CHECKING:
    from raftactors.core.raft import Raft


def send_append(raft: Raft, to: int, *, even_if_empty: bool = True) -> bool:
    """Send the next entries to a member, or a snapshot if they are compacted; returns whether anything was sent.

    With a full window an append still goes out if it may be empty: it carries no entries then, but lets a member that
    lost everything in flight say so.
    """
    progress = raft.tracker.progress[to]
    if to == raft.node_id or progress.is_paused():
        return False
    log = raft.log
    following = progress.next
    entries: tuple[Entry, ...] = ()
    previous_term = log.try_term(following - 1)
    if previous_term is None:
        return _send_snapshot(raft, to, progress)
    if progress.state is not ProgressState.REPLICATE or not progress.inflights.is_full():
        entries = log.entries_from(following, raft.config.bytes_per_message_max)
    if not entries and not even_if_empty:
        return False
    committed = log.committed
    raft.messages.append(
        Message(MessageType.APP, to, raft.node_id, raft.term, previous_term, following - 1, entries, committed)
    )
    progress.record_append(len(entries), payloads_size(entries))
    progress.sent_commit = committed
    return True


def send_outstanding(raft: Raft, to: int) -> None:
    """Send as many entries as the member lacks and the limits allow."""
    progress = raft.tracker.progress[to]
    last_index = raft.log.last_index()
    while progress.next <= last_index and send_append(raft, to, even_if_empty=False):
        pass


def broadcast_append(raft: Raft) -> None:
    """Send an append, empty if need be, to every other member."""
    for node_id in raft.tracker.progress:
        if node_id != raft.node_id:
            send_append(raft, node_id)


def broadcast_outstanding(raft: Raft) -> None:
    """Send an append to every other member that lacks entries, so that a new one need not wait for a heartbeat."""
    for node_id in raft.tracker.progress:
        if node_id != raft.node_id:
            send_append(raft, node_id, even_if_empty=False)


def broadcast_heartbeat(raft: Raft, context: bytes) -> None:
    """Send a heartbeat to every other member.

    It names no commit index beyond what the member is known to hold, so that the member need not check its log.
    """
    committed = raft.log.committed
    for node_id, progress in raft.tracker.progress.items():
        if node_id != raft.node_id:
            commit = min(progress.match, committed)
            raft.messages.append(
                Message(MessageType.HEARTBEAT, node_id, raft.node_id, raft.term, commit=commit, context=context)
            )
            progress.sent_commit = commit


def send_timeout_now(raft: Raft, to: int) -> None:
    """Tell the target of a transfer, whose log is complete, to campaign at once (thesis section 3.10)."""
    raft.messages.append(Message(MessageType.TIMEOUT_NOW, to, raft.node_id, raft.term))


def _send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    if not progress.recent_active:
        raft.logger.debug("node %d sends no snapshot to %d, which was not heard of lately", raft.node_id, to)
        return False
    try:
        snapshot = raft.log.snapshot()
    except SnapshotTemporarilyUnavailableError:
        raft.logger.debug("node %d has no snapshot ready for %d", raft.node_id, to)
        return False
    invariant(snapshot.index, "entries are compacted but there is no snapshot")
    raft.logger.info(
        "node %d (first entry %d, commit %d) sends the snapshot at index %d to %d",
        raft.node_id,
        raft.log.first_index(),
        raft.log.committed,
        snapshot.index,
        to,
    )
    progress.enter_snapshot(snapshot.index)
    raft.messages.append(Message(MessageType.SNAP, to, raft.node_id, raft.term, snapshot=snapshot))
    return True
