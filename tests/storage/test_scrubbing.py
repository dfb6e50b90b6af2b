"""Rot in what is finished is found while the node runs, and nothing else is called rot."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest

from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.storage import MemoryFiles, OpenedStorage, WalBatch, open_data_dir
from raftactors.storage.blocks import BLOCK_BYTES
from raftactors.storage.scrubbing import Damage, scrub
from raftactors.storage.snapshot_file import SnapshotHeader
from raftactors.storage.snapshots import SnapshotFolder

FOLDER = Path("/node/1")
SEGMENT_BYTES = 16 * 1024
ENTRIES = 60
CONTENT_BYTES = 5_000


@pytest.fixture
def disk() -> MemoryFiles:
    return MemoryFiles()


@pytest.fixture
def opened(disk: MemoryFiles) -> OpenedStorage:
    """A log over several segments, and one snapshot that it vouches for."""
    opened = open_data_dir(FOLDER, cluster_id=9, node_id=1, segment_bytes=SEGMENT_BYTES, files=disk)
    for index in range(1, ENTRIES + 1):
        opened.wal.append([WalBatch(HardState(1, 1, index - 1), [Entry(1, index, Random(index).randbytes(1_000))])])
    taken = Snapshot(20, 1, ConfState((1,)))
    snapshots_of(disk).save(SnapshotHeader(9, taken, 2, 512), [bytes(CONTENT_BYTES)])
    opened.wal.append([WalBatch(None, (), taken=taken)])
    return opened


def snapshots_of(disk: MemoryFiles) -> SnapshotFolder:
    return SnapshotFolder(disk, FOLDER / "snap", cluster_id=9)


def segments(disk: MemoryFiles) -> list[Path]:
    return [FOLDER / "wal" / name for name in disk.listdir(FOLDER / "wal") if name.endswith(".wal")]


def snapshot_file(disk: MemoryFiles) -> Path:
    (name,) = disk.listdir(FOLDER / "snap")
    return FOLDER / "snap" / name


def one_pass(disk: MemoryFiles, opened: OpenedStorage) -> tuple[int, list[str]]:
    """How many bytes a pass verifies, and the damage that it finds."""
    steps = list(scrub(FOLDER / "wal", snapshots_of(disk), opened.wal.identity))
    damage = [step.text for step in steps if isinstance(step, Damage)]
    return sum(step for step in steps if isinstance(step, int)), damage


def test_all_that_is_finished_is_read(disk: MemoryFiles, opened: OpenedStorage) -> None:
    finished = segments(disk)[:-2]
    assert len(finished) > 2
    assert one_pass(disk, opened) == (len(finished) * SEGMENT_BYTES + CONTENT_BYTES, [])
    dropped = [name for call, name in disk.calls if call == "drop_cache"]
    assert {path.name for path in [*finished, snapshot_file(disk)]} <= set(dropped)


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_is_found_and_named(disk: MemoryFiles, opened: OpenedStorage, seed: int) -> None:
    rng = Random(seed)
    path = rng.choice([*segments(disk)[:-2], snapshot_file(disk)])
    content = bytearray(disk.content(path))
    place = rng.randrange(len(content))
    content[place] ^= 1 << rng.randrange(8)
    disk.overwrite(path, bytes(content))
    _, (text,) = one_pass(disk, opened)
    assert str(path) in text
    if path.suffix == ".wal" and place >= BLOCK_BYTES:
        offset = int(text.partition("offset ")[2].split()[0])
        assert place - 1_100 < offset <= place + 8, text
        assert "index" in text


def test_the_rest_is_read_behind_damage_and_behind_what_cannot_be_read(
    disk: MemoryFiles, opened: OpenedStorage
) -> None:
    first, second, *_ = segments(disk)
    disk.overwrite(first, bytes(SEGMENT_BYTES))
    disk.fail("pread", nth=2, error=errno.EIO)
    verified, damage = one_pass(disk, opened)
    assert [str(first) in damage[0], str(second) in damage[1], len(damage)] == [True, True, 2]
    assert verified == (len(segments(disk)) - 4) * SEGMENT_BYTES + CONTENT_BYTES


def test_a_bit_in_the_last_two_segments_is_left_to_recovery(disk: MemoryFiles, opened: OpenedStorage) -> None:
    for path in segments(disk)[-2:]:
        content = bytearray(disk.content(path))
        content[BLOCK_BYTES + 100] ^= 1
        disk.overwrite(path, bytes(content))
    assert one_pass(disk, opened)[1] == []


def test_what_is_removed_meanwhile_is_no_damage(disk: MemoryFiles, opened: OpenedStorage) -> None:
    steps = scrub(FOLDER / "wal", snapshots_of(disk), opened.wal.identity)
    first = next(steps)
    for path in [*segments(disk)[:-2], snapshot_file(disk)]:
        disk.unlink(path)
    rest = list(steps)
    assert first
    assert [step for step in rest if isinstance(step, Damage)] == []
    assert sum(step for step in rest if isinstance(step, int)) <= SEGMENT_BYTES
