"""Workloads of a node with a witness: whatever a power cut leaves of the two, the node starts again."""

from __future__ import annotations

from raftactors.core.types import HardState, Snapshot
from raftactors.storage import WalBatch

from .tape import Log, Recorder
from .workloads import entries, workload


def grow_and_shrink(disk: Recorder, *, durability: str = "fsync") -> None:
    """Votes, appends, conflicts that leave the log longer and shorter, snapshots that do, and a restart in between."""
    disk.has_witness = True
    opened, log = disk.open_storage(durability), Log()
    disk.append(opened, log, WalBatch(HardState(1, 2, 0), ()))
    disk.append(opened, log, WalBatch(None, entries(disk.rng, 1, 6, 1, (50, 300))))
    disk.append(opened, log, WalBatch(HardState(2, 1, 0), entries(disk.rng, 7, 3, 2, (50,))))
    # The leader of term 3 has more entries of term 1 than this node; at first only those arrive.
    disk.append(opened, log, WalBatch(HardState(3, 3, 2), entries(disk.rng, 4, 3, 1, (80,))))
    opened.wal.sync()
    disk.acknowledge()
    disk.append(opened, log, WalBatch(None, entries(disk.rng, 7, 2, 3, (400,))))
    opened.close()
    disk.acknowledge()
    opened = disk.open_storage(durability)
    disk.append(opened, log, WalBatch(HardState(5, 1, 3), entries(disk.rng, 9, 4, 5, (60,))))
    disk.append(opened, log, WalBatch(HardState(6, 0, 9), (), Snapshot(9, 4)))
    disk.append(opened, log, WalBatch(None, entries(disk.rng, 10, 3, 6, (60,))))
    opened.close()
    disk.acknowledge()
    disk.freeze()


@workload("witness")
def witness(disk: Recorder) -> None:
    grow_and_shrink(disk)


@workload("witness without sync")
def witness_without_sync(disk: Recorder) -> None:
    """A power cut takes back batches, and the node must not be told that it is an old copy of itself."""
    grow_and_shrink(disk, durability="none")
