"""What one node of a trace shows of itself after an operation (`state` in the traces)."""

from __future__ import annotations

from raftactors.core.progress import Progress
from raftactors.core.raft import Raft
from raftactors.core.raw_node import RawNode
from raftactors.core.read_only import read_context
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import Role
from tests.conformance.trace_format import conf_json, text
from tests.conformance.trace_schema import Json


def node_state(raw_node: RawNode) -> Json:
    """Everything that the library itself knows."""
    raft, log = raw_node.raft, raw_node.raft.log
    state: Json = {
        "id": raft.node_id,
        "term": raft.term,
        "vote": raft.vote,
        "commit": log.committed,
        "applied": log.applied,
        "lead": raft.leader_id,
        "role": raft.role.value,
        "first_index": log.first_index(),
        "last_index": log.last_index(),
        "last_term": log.last_term(),
        "lead_transferee": raft.transferee_id,
        "is_learner": raft.is_learner,
        "promotable": raft.promotable(),
        "election_timeout": raft.randomized_election_timeout_ticks,
        "has_ready": raw_node.has_ready(),
        "conf": conf_json(raft.tracker.conf_state()),
        "internal": _internal(raft),
    }
    if raft.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
        state["votes"] = {str(node_id): granted for node_id, granted in raft.tracker.votes.items()}
    if raft.role is Role.LEADER:
        state["progress"] = {str(node_id): _progress(peer) for node_id, peer in raft.tracker.progress.items()}
    return state


def _internal(raft: Raft) -> Json:
    log, unstable = raft.log, raft.log.unstable
    return {
        "election_elapsed": raft.election_elapsed_ticks,
        "heartbeat_elapsed": raft.heartbeat_elapsed_ticks,
        "applying": log.applying,
        "applying_size": log.applying_bytes,
        "applying_paused": log.applying_paused,
        "pending_conf_index": raft.pending_conf_index,
        "uncommitted_size": raft.uncommitted_bytes,
        "unstable": {
            "offset": unstable.offset,
            "offset_in_progress": unstable.offset_in_progress,
            "entries": len(unstable.entries),
            "snapshot": 0 if unstable.snapshot is None else unstable.snapshot.index,
            "snapshot_in_progress": unstable.snapshot_in_progress,
        },
        "read_queue": [{"ctx": text(context), "index": index} for context, index in raft.read_only.pending()],
        "postponed_reads": [text(read_context(request)) for request in raft.postponed_reads],
    }


def _progress(progress: Progress) -> Json:
    inflights = progress.inflights
    return {
        "match": progress.match,
        "next": progress.next,
        "state": progress.state.value,
        "paused": progress.is_paused(),
        "flow_paused": progress.flow_paused,
        "recent_active": progress.recent_active,
        "is_learner": progress.is_learner,
        "pending_snapshot": progress.pending_snapshot,
        "inflight": inflights.count,
        "inflight_bytes": inflights.bytes,
        "inflight_full": inflights.is_full(),
        "sent_commit": progress.sent_commit,
    }


def stored_state(storage: MemoryStorage) -> Json:
    """Contents of a node's storage, without its entries. The storage must have a snapshot to show."""
    hard_state, _ = storage.initial_state()
    snapshot = storage.snapshot()
    return {
        "first": storage.first_index(),
        "last": storage.last_index(),
        **hard_state._asdict(),
        "snapshot_index": snapshot.index,
        "snapshot_term": snapshot.term,
    }
