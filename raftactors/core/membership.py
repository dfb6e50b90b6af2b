"""The membership of a running node: installed at start, changed by entries, replaced by snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from raftactors.core import replication
from raftactors.core.confchange import Changer
from raftactors.core.invariants import invariant
from raftactors.core.progress import Progress
from raftactors.core.tracker import Tracker
from raftactors.core.types import NONE, ConfChangeV2, ConfState, Role, Snapshot
from raftactors.errors import ConfChangeError

if TYPE_CHECKING:
    from raftactors.core.raft import Raft


def install(raft: Raft, conf_state: ConfState) -> None:
    """Take over a stored membership. Raises ConfChangeError if it is not consistent."""
    conf, progress = Changer(raft.tracker, raft.log.last_index()).restore(conf_state)
    _switch(raft, conf, progress)


def apply(raft: Raft, change: ConfChangeV2) -> ConfState:
    """Carry out a committed change. Raises ConfChangeError, with no effect, if it is impossible."""
    conf, progress = Changer(raft.tracker, raft.log.last_index()).change(change)
    _switch(raft, conf, progress)
    return conf


def restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace log and membership by a received snapshot; returns False if it is of no use to this node.

    A snapshot that ends at an entry which the log holds only tells that this entry is committed.
    """
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    invariant(raft.role is Role.FOLLOWER, "a %s cannot restore a snapshot", raft.role.value)
    conf_state = snapshot.conf_state
    if raft.node_id not in {*conf_state.voters, *conf_state.voters_outgoing, *conf_state.learners}:
        raft.logger.warning("node %d is no member in the snapshot at index %d", raft.node_id, snapshot.index)
        return False
    if log.matches(snapshot.term, snapshot.index):
        raft.logger.info(
            "node %d has the entries of the snapshot at index %d, commit moves there from %d",
            raft.node_id,
            snapshot.index,
            log.committed,
        )
        log.commit_to(snapshot.index)
        return False
    tracker = Tracker(raft.tracker.inflight_messages_max, raft.tracker.inflight_bytes_max)
    try:
        conf, progress = Changer(tracker, snapshot.index).restore(conf_state)
    except ConfChangeError as error:
        raft.logger.error("node %d drops the snapshot at index %d: %s", raft.node_id, snapshot.index, error)
        return False
    log.restore(snapshot)
    raft.tracker = tracker
    _switch(raft, conf, progress)
    return True


def _switch(raft: Raft, conf: ConfState, progress: Mapping[int, Progress]) -> None:
    tracker = raft.tracker
    tracker.switch(conf, progress)
    raft.logger.info("node %d switched to membership %s", raft.node_id, conf)
    own = tracker.progress.get(raft.node_id)
    raft.is_learner = own is not None and own.is_learner
    if raft.role is not Role.LEADER:
        return
    if own is None or own.is_learner:
        # Removed or demoted. It goes on leading, without a vote of its own, until another node takes over, unless it
        # is told to step down at once (thesis section 4.2.2).
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NONE)
        return
    if raft.maybe_commit():
        replication.broadcast_append(raft)
    else:
        replication.broadcast_outstanding(raft)
    if raft.transferee_id != NONE and raft.transferee_id not in tracker.voter_ids:
        raft.logger.info("node %d gives up the transfer to %d, which is no voter now", raft.node_id, raft.transferee_id)
        raft.abort_transfer()
