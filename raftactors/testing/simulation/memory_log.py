"""What the core reads its stored entries from, and how it is built from what a start has found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftactors.core.config import Logger, RaftConfig
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import Snapshot
from raftactors.errors import SnapshotTemporarilyUnavailableError
from raftactors.testing.simulation.disk import Durable
from raftactors.testing.simulation.plan import Plan

if TYPE_CHECKING:
    from raftactors.testing.simulation.process import Process


class SimulatedLog(MemoryStorage):
    """The in-memory log, whose snapshot may be out of reach for a while."""

    def __init__(self, state: Durable) -> None:
        super().__init__()
        self.busy = False
        if state.snapshot.index:
            self.apply_snapshot(state.snapshot)
        self.append(state.entries)
        self.set_hard_state(state.hard_state)

    @property
    def snapshot_index(self) -> int:
        """Where the stored snapshot ends."""
        return super().snapshot().index

    def snapshot(self) -> Snapshot:
        """The stored snapshot. Raises SnapshotTemporarilyUnavailableError while `busy`."""
        if self.busy:
            raise SnapshotTemporarilyUnavailableError("the simulated snapshot is busy")
        return super().snapshot()


class _Silence:
    """A logger that drops everything."""

    def debug(self, msg: str, *args: object) -> None:
        """Nothing."""

    info = warning = error = debug


SILENCE: Logger = _Silence()


def make_raw_node(plan: Plan, process: Process) -> RawNode:
    """The core on top of the process's log; a voter of the beginning whose log is empty begins the cluster."""
    raft = plan.raft
    raw = RawNode(
        RaftConfig(
            node_id=process.node_id,
            election_ticks=raft.election_ticks,
            heartbeat_ticks=raft.heartbeat_ticks,
            storage=process.log,
            random=process.rng,
            logger=process.world.logger(process.node_id),
            bytes_per_message_max=raft.bytes_per_message_max,
            inflight_messages_max=raft.inflight_messages_max,
            inflight_bytes_max=raft.inflight_bytes_max,
            uncommitted_bytes_max=raft.uncommitted_bytes_max,
            committed_bytes_per_ready_max=raft.committed_bytes_per_ready_max,
            check_quorum=raft.check_quorum,
            pre_vote=raft.pre_vote,
            read_only_option=raft.read_only_option,
            disable_proposal_forwarding=raft.disable_proposal_forwarding,
            step_down_on_removal=raft.step_down_on_removal,
            async_storage_writes=True,
        )
    )
    if process.node_id in plan.voters and not raw.raft.log.last_index():
        raw.bootstrap(plan.voters)
    return raw
