"""From what a data folder holds to a core and its log in memory."""

from __future__ import annotations

import logging
import random

from raftactors.actors.consensus_snapshots import compact
from raftactors.config import NodeConfig
from raftactors.core.config import RaftConfig
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import Snapshot
from raftactors.storage import OpenedStorage


def restore_core(
    config: NodeConfig, storage: OpenedStorage, snapshot: Snapshot | None
) -> tuple[RawNode, MemoryStorage]:
    """The core as it goes on behind `snapshot`; an empty folder starts with the configured members as voters."""
    memory_log = restore_log(config, storage, snapshot)
    limits, timing = config.limits, config.timing
    raft = RawNode(
        RaftConfig(
            node_id=config.node_id,
            election_ticks=timing.election_ticks,
            heartbeat_ticks=timing.heartbeat_ticks,
            storage=memory_log,
            applied=0 if snapshot is None else snapshot.index,
            bytes_per_message_max=limits.append_bytes_max,
            inflight_messages_max=limits.inflight_messages_max,
            inflight_bytes_max=limits.inflight_bytes_max,
            uncommitted_bytes_max=limits.uncommitted_bytes_max,
            committed_bytes_per_ready_max=limits.committed_bytes_per_ready_max,
            check_quorum=config.check_quorum,
            pre_vote=config.pre_vote,
            step_down_on_removal=True,
            async_storage_writes=True,
            random=random.Random(),
            logger=logging.getLogger("raftactors.raft"),
        )
    )
    if snapshot is None and not storage.entries:
        raft.bootstrap(sorted(member.node_id for member in config.members))
    return raft, memory_log


def restore_log(config: NodeConfig, storage: OpenedStorage, snapshot: Snapshot | None) -> MemoryStorage:
    """The log in memory: the entries behind the snapshot, and the trailing ones before it that the disk still has."""
    memory_log = MemoryStorage()
    memory_log.set_hard_state(storage.hard_state)
    base = storage.base
    if snapshot is None:
        memory_log.append(storage.entries)
    elif base.index < snapshot.index and (base.term or not base.index):
        if base.index:
            memory_log.apply_snapshot(Snapshot(base.index, base.term))
        memory_log.append(storage.entries)
        memory_log.create_snapshot(snapshot.index, snapshot.conf_state, b"")
        compact(memory_log, snapshot.index, config.limits, pinned=snapshot.index)
    else:
        memory_log.apply_snapshot(snapshot)
        memory_log.append(storage.entries)
    return memory_log
