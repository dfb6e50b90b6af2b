"""Known bugs around snapshots, planted one by one: the crash explorer has to find each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from raftactors.core.types import Entry, HardState, Snapshot
from raftactors.errors import CorruptWalError, InvariantViolation, StorageError
from raftactors.storage import MemoryFiles, WalBatch
from raftactors.storage import snapshots as snapshots_module
from raftactors.storage.snapshot_file import (
    SnapshotHeader,
)
from raftactors.storage.wal import Wal

from . import snapshot_workloads as workloads_module
from .explorer import explore
from .snapshot_workloads import (
    MEMBERS,
    SnapshottingNode,
)


def bug_6_the_directory_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    """etcd, ClickHouse Keeper, hashicorp/raft: the new name of the snapshot is lost in a power cut."""

    def publish(files: MemoryFiles, temporary: Path, target: Path, header: SnapshotHeader) -> None:
        files.rename(temporary, target)

    patch.setattr(snapshots_module, "publish", publish)


def bug_18_the_commit_index_stays_behind(patch: pytest.MonkeyPatch) -> None:
    """canonical/raft: log and snapshot do not reach each other after a kill, and the start is refused."""
    whole = SnapshottingNode.write

    def write(node: SnapshottingNode, batch: WalBatch) -> None:
        whole(node, batch if batch.snapshot is None else batch._replace(hard_state=None))

    patch.setattr(workloads_module.SnapshottingNode, "write", write)


def purge_before_the_record(patch: pytest.MonkeyPatch) -> None:
    """Older segments go when the file is there, before the log vouches for it."""

    def take_snapshot(node: SnapshottingNode, index: int) -> None:
        held: list[WalBatch] = []
        whole = node.write
        node.write = held.append  # type: ignore[method-assign, assignment]  # the record waits
        original(node, index)
        names = node.disk.listdir(node.opened.wal.folder)
        node.segments.add(names[:-1])
        node.segments.run()
        node.write = whole  # type: ignore[method-assign]
        for batch in held:
            whole(batch)

    original = SnapshottingNode.take_snapshot
    patch.setattr(workloads_module.SnapshottingNode, "take_snapshot", take_snapshot)


def purge_from_the_newest(patch: pytest.MonkeyPatch) -> None:
    """Only one snapshot's worth of log is kept, and segments go in any order."""

    def release(wal: Wal) -> list[str]:
        names = [name for name in wal._files.listdir(wal.folder) if name.endswith(".wal")]
        return names[-2::-1]

    patch.setattr(Wal, "release_segments", release)


def record_before_the_file(patch: pytest.MonkeyPatch) -> None:
    """The log begins anew behind a received snapshot whose file is not there yet."""

    def receive(node: SnapshottingNode, entries: list[Entry], term: int) -> None:
        snapshot = Snapshot(len(entries), entries[-1].term, MEMBERS)
        node.write(WalBatch(HardState(term, 0, snapshot.index), (), snapshot))
        original(node, entries, term)

    original = SnapshottingNode.receive
    patch.setattr(workloads_module.SnapshottingNode, "receive", receive)


Mutant: TypeAlias = Callable[[pytest.MonkeyPatch], None]

MUTANTS: list[tuple[Mutant, str]] = [
    (bug_6_the_directory_is_not_synced, "own snapshots"),
    (bug_18_the_commit_index_stays_behind, "received snapshot"),
    (purge_before_the_record, "own snapshots"),
    (purge_from_the_newest, "own snapshots"),
    (record_before_the_file, "received snapshot"),
]


@pytest.mark.parametrize(("mutant", "workload"), MUTANTS, ids=lambda value: getattr(value, "__name__", None))
def test_mutants_are_caught(mutant: Mutant, workload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    try:
        findings = explore(4_000, workloads=(workload,), stop_at_failure=True).failures
    except (AssertionError, CorruptWalError, StorageError, InvariantViolation) as error:
        findings = [str(error)]
    assert findings, f"{mutant.__name__} went unnoticed"
