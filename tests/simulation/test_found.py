"""What the simulator found, each as small as it gets, so that it stays found."""

from __future__ import annotations

from pathlib import Path

from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.storage import MemoryFiles, OpenedStorage, WalBatch, open_data_dir

FOLDER = Path("/node")


def opened(files: MemoryFiles) -> OpenedStorage:
    """Open the folder as a node does."""
    return open_data_dir(FOLDER, cluster_id=1, node_id=1, segment_bytes=16_384, files=files, random_bytes=bytes)


def test_a_log_whose_last_batch_holds_a_snapshot_over_its_own_entries_opens_again_and_again() -> None:
    """Seed 1565: the last batch is written again at each start, but its entries no longer fit behind its snapshot."""
    files = MemoryFiles()
    storage = opened(files)
    storage.wal.append([WalBatch(HardState(1, 1, 0), [Entry(1, index, b"x") for index in range(1, 6)])])
    snapshot = Snapshot(7, 1, ConfState(voters=(1,)))
    behind = [Entry(1, 8, b"y")]
    storage.wal.append(
        [WalBatch(None, [Entry(1, 6, b"x"), Entry(1, 7, b"x")]), WalBatch(HardState(1, 1, 7), behind, snapshot)]
    )
    storage.close()

    for _ in range(3):
        storage = opened(files)
        assert (storage.snapshot.index, storage.entries) == (7, behind)
        assert storage.hard_state == HardState(1, 1, 7)
        storage.close()
