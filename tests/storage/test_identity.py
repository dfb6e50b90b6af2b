"""Whose folder it is, that it is open once, and that an incarnation is never used twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from raftactors.errors import CorruptWalError, DataLockedError, DataLostError, ExitCode, ForeignDataError, StorageError
from raftactors.storage import MemoryFiles, OpenedStorage, PowerCut, WalBatch, open_data_dir
from raftactors.storage.blocks import seal_block

FOLDER = Path("/node/1")

MakeBatch = Callable[..., WalBatch]


def open_as(disk: MemoryFiles, cluster_id: int = 9, node_id: int = 1) -> OpenedStorage:
    return open_data_dir(FOLDER, cluster_id=cluster_id, node_id=node_id, segment_bytes=16_384, files=disk)


def test_the_incarnation_goes_up_at_each_open(disk: MemoryFiles) -> None:
    for expected in range(1, 6):
        opened = open_as(disk)
        assert opened.incarnation == expected
        opened.close()


@pytest.mark.parametrize(("cluster_id", "node_id"), [(8, 1), (9, 2)])
def test_a_foreign_folder_is_refused_with_a_way_out(disk: MemoryFiles, cluster_id: int, node_id: int) -> None:
    open_as(disk).close()
    with pytest.raises(ForeignDataError) as refused:
        open_as(disk, cluster_id, node_id)
    text = str(refused.value)
    for part in (str(FOLDER), "cluster 9, node 1", f"cluster {cluster_id}, node {node_id}", "point this node at"):
        assert part in text
    assert refused.value.exit_code == ExitCode.DATA_FOREIGN
    assert open_as(disk).incarnation == 2  # The refusal changed nothing and holds no lock.


def test_a_foreign_segment_is_refused(disk: MemoryFiles) -> None:
    other = MemoryFiles()
    open_as(disk).close()
    open_as(other, node_id=2).close()
    segment = FOLDER / "wal" / disk.listdir(FOLDER / "wal")[0]
    disk.overwrite(segment, other.content(segment))
    with pytest.raises(ForeignDataError, match="node 2 where cluster 9, node 1 was expected"):
        open_as(disk)


def test_an_open_folder_is_refused_with_a_way_out(disk: MemoryFiles) -> None:
    opened = open_as(disk)
    with pytest.raises(DataLockedError) as refused:
        open_as(disk)
    for part in (str(FOLDER), "another process", "expected nobody", "stop that process"):
        assert part in str(refused.value)
    opened.close()
    assert open_as(disk).incarnation == 2


@pytest.mark.parametrize("copy", [0, 1])
def test_one_damaged_copy_is_mended(disk: MemoryFiles, copy: int) -> None:
    open_as(disk).close()
    content = bytearray(disk.content(FOLDER / "IDENTITY"))
    content[copy * 4096 + 30] ^= 1
    disk.overwrite(FOLDER / "IDENTITY", bytes(content))
    opened = open_as(disk)
    assert opened.incarnation == 2
    mended = disk.content(FOLDER / "IDENTITY")
    assert mended[:4096] == mended[4096:]


def test_two_damaged_copies_are_refused(disk: MemoryFiles) -> None:
    open_as(disk).close()
    disk.overwrite(FOLDER / "IDENTITY", bytes(8192))
    with pytest.raises(CorruptWalError, match="neither copy"):
        open_as(disk)


def test_an_unknown_major_format_is_refused(disk: MemoryFiles) -> None:
    open_as(disk).close()
    name = disk.listdir(FOLDER / "wal")[0]
    for path, magic_bytes in ((FOLDER / "wal" / name, 8), (FOLDER / "IDENTITY", 8)):
        content = disk.content(path)
        block = bytearray(content[:4092])
        block[magic_bytes] = 9
        disk.overwrite(path, seal_block(bytes(block)) + content[4096:])
        with pytest.raises(StorageError, match="format 9") as refused:
            open_as(disk)
        assert refused.value.exit_code == ExitCode.DATA_UNREADABLE


def test_a_log_that_lost_its_identity_is_not_started_over(disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_as(disk)
    opened.wal.append([batch(1, 1)])
    opened.close()
    disk.unlink(FOLDER / "IDENTITY")
    with pytest.raises(CorruptWalError, match="no IDENTITY"):
        open_as(disk)


def test_an_identity_that_lost_its_log_is_refused(disk: MemoryFiles) -> None:
    open_as(disk).close()
    disk.unlink(FOLDER / "wal")
    with pytest.raises(CorruptWalError, match="missing"):
        open_as(disk)


def test_a_first_boot_may_be_cut_at_every_call(batch: MakeBatch) -> None:
    whole = MemoryFiles()
    open_as(whole).close()
    for calls in range(len(whole.calls)):
        disk = MemoryFiles()
        disk.cut_power(after_calls=calls)
        with pytest.raises(PowerCut):
            open_as(disk).close()
        disk.crash(Random(calls))
        opened = open_as(disk)
        assert opened.entries == []
        opened.wal.append([batch(1, 1)])
        opened.close()
        assert len(open_as(disk).entries) == 1


def test_no_incarnation_is_handed_out_twice_when_opens_are_cut() -> None:
    disk = MemoryFiles()
    handed_out = 0
    for trial in range(120):
        disk.cut_power(after_calls=trial % 40)
        try:
            opened = open_as(disk)
            assert opened.incarnation > handed_out
            handed_out = opened.incarnation
        except PowerCut:
            pass
        disk.crash(Random(trial))
    assert handed_out > 1


def test_an_empty_folder_and_an_old_copy_are_refused_where_more_is_expected(disk: MemoryFiles) -> None:
    def open_expecting(least: int) -> OpenedStorage:
        return open_data_dir(FOLDER, cluster_id=9, node_id=1, segment_bytes=16_384, files=disk, incarnation_min=least)

    with pytest.raises(DataLostError, match=r"^/node/1: nothing is here, .*raftactors rebuild") as refused:
        open_expecting(1)
    assert refused.value.exit_code == ExitCode.DATA_LOST
    assert disk.listdir(FOLDER) == ["LOCK"]
    open_as(disk).close()
    with pytest.raises(DataLostError, match=r"^/node/1: an old copy of incarnation 1, .* with incarnation 2:"):
        open_expecting(2)
    opened = open_expecting(1)
    assert opened.incarnation == 2
    opened.close()
    open_expecting(2).close()


def test_a_folder_in_the_place_of_another_has_higher_incarnations(disk: MemoryFiles) -> None:
    for expected in (42, 43):
        opened = open_data_dir(FOLDER, cluster_id=9, node_id=1, segment_bytes=16_384, files=disk, incarnation=41)
        assert opened.incarnation == expected
        opened.close()
