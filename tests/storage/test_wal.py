"""Appending, reopening, conflicts, rotation, and the order of the calls behind an acknowledgement."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from raftactors.core.types import ConfState, Entry, EntryType, HardState, Snapshot
from raftactors.errors import ConfigError, ExitCode, InvariantViolation, StorageError
from raftactors.storage import MemoryFiles, OpenedStorage, SimulatedExit, Verdict, WalBatch, open_data_dir
from raftactors.storage.segment import SEGMENT_BYTES_MIN, segment_bytes_for

FOLDER = Path("/node/1")

OpenLog = Callable[[], OpenedStorage]
MakeBatch = Callable[..., WalBatch]


def test_a_new_folder_is_empty(open_log: OpenLog) -> None:
    opened = open_log()
    assert (opened.entries, opened.hard_state, opened.snapshot) == ([], HardState(), Snapshot())
    assert (opened.incarnation, opened.conf, opened.recovery.verdict) == (1, None, Verdict.NEW)


def test_every_kind_of_entry_survives_a_restart(open_log: OpenLog) -> None:
    entries = [
        Entry(1, 1, None),
        Entry(1, 2, b""),
        Entry(1, 3, b"x" * 7, EntryType.CONF_CHANGE),
        Entry(2, 4, b"y" * 8, EntryType.CONF_CHANGE_V2),
        Entry(2, 5, bytes(range(256)) * 20),
    ]
    opened = open_log()
    opened.wal.append([WalBatch(HardState(2, 3, 4), entries)])
    opened.close()
    again = open_log()
    assert again.entries == entries
    assert again.hard_state == HardState(2, 3, 4)
    assert (again.incarnation, again.recovery.verdict, again.recovery.batches) == (2, Verdict.CLEAN, 1)


def test_several_batches_handed_over_are_one_write_and_one_sync(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch
) -> None:
    opened = open_log()
    disk.calls.clear()
    parts = [batch(1, 2), WalBatch(None, []), batch(3, 3), WalBatch(HardState(4, 2, 3), [])]
    opened.wal.append(parts)
    assert [operation for operation, _ in disk.calls] == ["pwrite", "fdatasync"]
    assert (opened.wal.stats.batches, opened.wal.stats.entries, opened.wal.stats.syncs) == (1, 3, 1)
    disk.end_process()
    again = open_log()
    assert again.entries == [*parts[0].entries, *parts[2].entries]
    assert again.hard_state == HardState(4, 2, 3)


def test_nothing_to_write_writes_nothing(open_log: OpenLog, disk: MemoryFiles) -> None:
    opened = open_log()
    disk.calls.clear()
    opened.wal.append([])
    opened.wal.append([WalBatch(None, [])])
    assert disk.calls == []


def test_a_conflicting_suffix_replaces_what_it_overlaps(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_log()
    first, second = batch(1, 6), batch(4, 5, term=2)
    opened.wal.append([first])
    opened.wal.append([second])
    opened.close()
    again = open_log()
    assert again.entries == [*first.entries[:3], *second.entries]
    third = batch(2, 2, term=3)
    again.wal.append([third, batch(3, 3, term=3), WalBatch(HardState(3, 1, 1), [])])
    disk.end_process()
    assert [(e.term, e.index) for e in open_log().entries] == [(1, 1), (3, 2), (3, 3)]


def test_a_conflict_inside_one_batch_survives_the_rewrite_of_that_batch(open_log: OpenLog, batch: MakeBatch) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 5), batch(3, 4, term=2)])
    opened.close()
    for _ in range(3):
        again = open_log()
        assert [(e.term, e.index) for e in again.entries] == [(1, 1), (1, 2), (2, 3), (2, 4)]
        again.close()


def test_a_snapshot_starts_the_log_anew(open_log: OpenLog, batch: MakeBatch) -> None:
    snapshot = Snapshot(10, 3, ConfState((1, 2, 3), (1, 2), (4,), (5,), True))
    opened = open_log()
    opened.wal.append([batch(1, 20)])
    opened.wal.append([WalBatch(HardState(3, 0, 10), [Entry(3, 11, b"a")], snapshot)])
    opened.wal.append([WalBatch(None, [Entry(3, 12, b"b")])])
    opened.close()
    for _ in range(2):
        again = open_log()
        assert again.snapshot == snapshot
        assert again.entries == [Entry(3, 11, b"a"), Entry(3, 12, b"b")]
        again.close()


def test_the_log_goes_on_over_many_segments(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_log()
    expected: list[Entry] = []
    for i in range(200):
        made = batch(3 * i + 1, 3 * i + 3, data_bytes=90)
        opened.wal.append([made])
        expected += made.entries
    assert opened.wal.stats.segments >= 5
    disk.end_process()
    again = open_log()
    assert again.entries == expected
    assert again.hard_state == HardState(1, 1, 597)
    assert again.recovery.segments == opened.wal.stats.segments + 1


@pytest.mark.parametrize("data_bytes", [12_000, 16_000, 100_000, 3_000_000])
def test_a_batch_larger_than_a_segment_gets_a_segment_of_its_size(open_log: OpenLog, data_bytes: int) -> None:
    opened = open_log()
    entries = [Entry(1, i, bytes([i]) * data_bytes) for i in (1, 2, 3)]
    for entry in entries:
        opened.wal.append([WalBatch(HardState(1, 1, entry.index), [entry])])
    opened.close()
    assert open_log().entries == entries


def test_no_segment_is_too_small_for_the_batch_it_was_made_for() -> None:
    for batch_bytes in range(8, 200_000, 1_000):
        size = segment_bytes_for(batch_bytes, SEGMENT_BYTES_MIN)
        assert 4096 + batch_bytes <= size - 4096 - 512
    with pytest.raises(StorageError, match="does not fit"):
        segment_bytes_for(1024**3, SEGMENT_BYTES_MIN)


def test_a_gap_or_a_commit_behind_the_log_is_refused_before_anything_is_written(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch
) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 3)])
    disk.calls.clear()
    for wrong in (
        batch(5, 5),
        WalBatch(None, [Entry(1, 4, b""), Entry(1, 6, b"")]),
        WalBatch(HardState(1, 1, 4), []),
        WalBatch(None, [Entry(1, 0, b"")]),
    ):
        with pytest.raises(InvariantViolation):
            opened.wal.append([wrong])
    assert disk.calls == []
    opened.wal.append([batch(4, 4)])


def test_the_next_segment_is_durable_before_the_old_one_names_it(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch
) -> None:
    opened = open_log()
    while opened.wal.stats.segments == 0:
        disk.calls.clear()
        index = opened.wal.stats.entries + 1
        opened.wal.append([batch(index, index, data_bytes=900)])
    first, second = sorted(disk.listdir(FOLDER / "wal"))
    assert disk.calls == [
        ("create", "next.spare.tmp"),
        ("pwrite", "next.spare.tmp"),
        ("fsync", "next.spare.tmp"),
        ("rename", "next.spare"),
        ("fsync_dir", "wal"),
        ("pwrite", "next.spare"),  # The header; the descriptor keeps this name on the disk in memory.
        ("fdatasync", "next.spare"),
        ("rename", second),
        ("fsync_dir", "wal"),
        ("pwrite", first),  # SEGMENT_END.
        ("fdatasync", first),
        ("pwrite", "next.spare"),  # The batch.
        ("fdatasync", "next.spare"),
    ]


def test_the_last_batch_is_written_again_to_fresh_space_at_each_open(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch
) -> None:
    opened = open_log()
    made = batch(1, 2)
    opened.wal.append([made])
    opened.close()
    disk.calls.clear()
    again = open_log()
    assert (again.wal.stats.batches, again.wal.stats.entries, again.wal.stats.syncs) == (1, 2, 1)
    name = disk.listdir(FOLDER / "wal")[0]
    assert disk.calls[-2:] == [("pwrite", name), ("fdatasync", name)]
    content = disk.content(FOLDER / "wal" / name)
    assert [content.count(entry.data or b"") for entry in made.entries] == [2, 2]
    assert again.entries == made.entries


def test_everything_acknowledged_was_synced(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_log()
    for index in range(1, 60):
        opened.wal.append([batch(index, index, data_bytes=700)])
        newest = max(name for name in disk.listdir(FOLDER / "wal") if name.endswith(".wal"))
        assert disk.unsynced_writes(FOLDER / "wal" / newest) == []


@pytest.mark.parametrize("operation", ["fdatasync", "fsync", "fsync_dir"])
def test_a_failed_sync_ends_the_process_and_is_not_tried_again(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch, operation: str
) -> None:
    opened = open_log()
    disk.fail(operation, nth=1)
    with pytest.raises(SimulatedExit) as ended:
        for index in range(1, 30):
            opened.wal.append([batch(index, index, data_bytes=900)])
    assert ended.value.code == ExitCode.SYNC_FAILED
    assert disk.calls[-1][0] == operation
    with pytest.raises(StorageError):
        opened.wal.append([batch(1, 1)])


def test_a_full_disk_stops_the_log_and_loses_nothing(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 3)])
    disk.fail("pwrite", nth=1, error=errno.ENOSPC)
    with pytest.raises(StorageError, match="No space left"):
        opened.wal.append([batch(4, 4)])
    with pytest.raises(StorageError, match="start the node again"):
        opened.wal.append([batch(4, 4)])
    disk.end_process()
    assert [entry.index for entry in open_log().entries] == [1, 2, 3]


def test_a_closed_log_takes_nothing(open_log: OpenLog, batch: MakeBatch) -> None:
    opened = open_log()
    opened.close()
    opened.close()
    with pytest.raises(StorageError, match="closed"):
        opened.wal.append([batch(1, 1)])


@pytest.mark.parametrize("segment_bytes", [0, SEGMENT_BYTES_MIN - 1, 1024**3 + 1])
def test_segment_sizes_have_bounds(segment_bytes: int) -> None:
    with pytest.raises(ConfigError, match=f"segment_bytes is {segment_bytes}"):
        open_data_dir(FOLDER, cluster_id=1, node_id=1, segment_bytes=segment_bytes, files=MemoryFiles())
