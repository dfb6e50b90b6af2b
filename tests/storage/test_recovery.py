"""A torn end is cut off, damage is refused, and nothing else is ever taken for either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from raftactors.core.types import Entry, HardState
from raftactors.errors import CorruptWalError, ExitCode
from raftactors.storage import MemoryFiles, OpenedStorage, Verdict, WalBatch
from raftactors.storage.marks import mark_offsets
from raftactors.storage.recovery import Recovered, recover
from raftactors.storage.repair import BROKEN_COPIES_MAX

WAL = Path("/node/1/wal")

OpenLog = Callable[[], OpenedStorage]
MakeBatch = Callable[..., WalBatch]


def segments(disk: MemoryFiles) -> list[Path]:
    return [WAL / name for name in disk.listdir(WAL) if name.endswith(".wal")]


def read(disk: MemoryFiles) -> Recovered:
    return recover(disk, WAL, cluster_id=9, node_id=1)


def append_alone(
    disk: MemoryFiles, opened: OpenedStorage, batches: Sequence[WalBatch]
) -> tuple[Path, bytes, int, bytes]:
    """Append, and return the bytes of the file before, the bytes of the batch, and where they went."""
    path = segments(disk)[-1]
    before = disk.content(path)
    start, written = opened.wal._place.offset, opened.wal.stats.bytes
    opened.wal.append(batches)
    stop = start + opened.wal.stats.bytes - written
    return path, before, start, disk.content(path)[start:stop]


def test_a_tail_torn_at_any_byte_is_cut_off_and_written_over(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch
) -> None:
    opened = open_log()
    for index in (1, 2, 3):
        opened.wal.append([batch(index, index)])
    opened.wal.append([batch(4, 4)])
    kept = [entry.index for entry in read(disk).log.entries]
    path, before, start, content = append_alone(disk, opened, [batch(5, 6)])
    disk.end_process()
    for length in range(1, len(content)):
        if not any(content[:length]) or not any(content[length:]):
            continue
        disk.overwrite(path, before[:start] + content[:length] + before[start + length :])
        found = read(disk)
        assert found.verdict is Verdict.TORN
        assert [entry.index for entry in found.log.entries] == kept
        again = open_log()
        assert (again.recovery.verdict, again.recovery.broken_copy is not None) == (Verdict.TORN, True)
        again.wal.append([batch(5, 5, term=2)])
        disk.end_process()
        assert [(e.term, e.index) for e in read(disk).log.entries] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5)]
    assert len([name for name in disk.listdir(WAL) if name.endswith(".broken")]) == BROKEN_COPIES_MAX


def test_a_torn_batch_whose_later_sectors_reached_the_disk_is_torn_too(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch
) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 1)])
    path, before, start, content = append_alone(disk, opened, [batch(2, 40)])
    disk.end_process()
    for first in range(0, len(content), 512):
        torn = content[:first] + bytes(min(512, len(content) - first)) + content[first + 512 :]
        disk.overwrite(path, before[:start] + torn + before[start + len(torn) :])
        assert read(disk).verdict is Verdict.TORN
        assert [entry.index for entry in read(disk).log.entries] == [1]


def test_the_original_is_kept_before_the_torn_end_is_erased(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch
) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 1)])
    path, before, start, content = append_alone(disk, opened, [batch(2, 2)])
    disk.end_process()
    torn = before[:start] + content[:100] + before[start + 100 :]
    disk.overwrite(path, torn)
    again = open_log()
    assert again.recovery.broken_copy is not None
    assert disk.content(again.recovery.broken_copy) == torn.rstrip(b"\0")
    assert again.recovery.torn_bytes == len(torn.rstrip(b"\0")) - start


@pytest.fixture
def filled(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> Recovered:
    """A closed log of several segments; returns what it holds."""
    opened = open_log()
    for i in range(60):
        opened.wal.append([batch(2 * i + 1, 2 * i + 2, data_bytes=200 + 7 * i)])
    opened.close()
    assert len(segments(disk)) >= 4
    return read(disk)


def damages(kind: str, rng: Random, used: int, length: int) -> list[tuple[int, bytes | None]]:
    """Places to damage: (offset, bytes to flip with)."""
    if kind == "bit":
        return [(rng.randrange(length), bytes([1 << rng.randrange(8)])) for _ in range(400)]
    if kind == "word":
        return [(offset, None) for offset in range(0, used, 8) if rng.random() < 0.15]
    return [(offset, None) for offset in range(0, used, 512)]


@pytest.mark.parametrize("kind", [pytest.param("bit", marks=pytest.mark.long), "word", "sector"])
def test_damage_is_detected_and_never_shortens_the_log(filled: Recovered, disk: MemoryFiles, kind: str) -> None:
    rng = Random(3)
    refused = 0
    for path in segments(disk):
        whole = disk.content(path)
        used = len(whole.rstrip(b"\0"))
        size = {"bit": 1, "word": 8, "sector": 512}[kind]
        for offset, flip in damages(kind, rng, used, len(whole)):
            old = whole[offset : offset + size]
            new = bytes([old[0] ^ flip[0]]) if flip else bytes(len(old))
            if new == old:
                continue
            disk.overwrite(path, whole[:offset] + new + whole[offset + size :])
            try:
                found = read(disk)
            except CorruptWalError as error:
                refused += 1
                assert error.exit_code == ExitCode.DATA_CORRUPT
                assert path.name in str(error)
                assert "offset" in str(error)
                assert "index" in str(error)
                continue
            # Only what stands behind the last batch may be damaged without a refusal.
            assert path == segments(disk)[-1]
            assert offset + size > filled.tail.stop
            assert (found.log.entries, found.log.hard_state) == (filled.log.entries, filled.log.hard_state)
            assert found.repairs or not any(new)  # A mark that is missing is as after a power cut.
        disk.overwrite(path, whole)
    assert refused > 50
    assert read(disk).log == filled.log


def test_every_bit_of_the_last_durable_batch_is_protected_by_its_marks(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch
) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 1)])
    path, before, start, content = append_alone(disk, opened, [WalBatch(HardState(1, 1, 2), [Entry(1, 2, b"abcde")])])
    opened.close()
    whole = disk.content(path)
    for bit in range(8 * len(content)):
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        disk.overwrite(path, bytes(damaged))
        with pytest.raises(CorruptWalError, match="says that batch 2 ended at index 2 of term 1"):
            read(disk)
    assert before[start : start + len(content)] == bytes(len(content))


def test_a_later_batch_proves_damage_without_the_marks(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 1)])
    path, _, start, _ = append_alone(disk, opened, [batch(2, 2)])
    opened.wal.append([batch(3, 3)])
    opened.close()
    whole = disk.content(path)
    stop = opened.wal._place.offset
    unmarked = whole[:stop] + bytes(len(whole) - stop)
    disk.overwrite(path, unmarked[: start + 4] + bytes(8) + unmarked[start + 12 :])
    with pytest.raises(CorruptWalError, match=rf"damage at offset {start} \(index 2 and up\).* batch 3 \("):
        read(disk)


def test_a_bad_mark_is_erased_and_a_missing_one_is_no_damage(
    open_log: OpenLog, disk: MemoryFiles, filled: Recovered
) -> None:
    path = segments(disk)[-1]
    whole = disk.content(path)
    for mark in mark_offsets(filled.tail.stop):
        for damage in (bytes(32), b"\xff" * 32):
            disk.overwrite(path, whole[:mark] + damage + whole[mark + 32 :])
            opened = open_log()
            assert (opened.recovery.verdict is Verdict.CLEAN) == (damage == bytes(32))
            assert (opened.recovery.broken_copy is None) == (damage == bytes(32))
            assert opened.entries == filled.log.entries
            disk.end_process()
            disk.overwrite(path, whole)


def test_one_mark_is_enough_to_tell_damage(disk: MemoryFiles, filled: Recovered) -> None:
    path = segments(disk)[-1]
    whole = disk.content(path)
    stop = filled.tail.stop
    for mark in mark_offsets(stop):
        disk.overwrite(path, whole[:mark] + bytes(32) + whole[mark + 32 :])
        assert read(disk).log == filled.log
        disk.overwrite(path, whole[: stop - 8] + bytes(8) + whole[stop:mark] + bytes(32) + whole[mark + 32 :])
        with pytest.raises(CorruptWalError, match="the mark at offset"):
            read(disk)


def test_missing_and_exchanged_segments_are_refused(filled: Recovered, disk: MemoryFiles) -> None:
    paths = segments(disk)
    contents = [disk.content(path) for path in paths]
    for i, path in enumerate(paths):
        disk.unlink(path)
        with pytest.raises(CorruptWalError, match="missing"):
            read(disk)
        descriptor = disk.open(path, create=True)
        disk.pwrite(descriptor, contents[i], 0)
        disk.fsync(descriptor)
    disk.overwrite(paths[0], contents[1])
    disk.overwrite(paths[1], contents[0])
    with pytest.raises(CorruptWalError, match="exchanged or renamed"):
        read(disk)


@pytest.mark.parametrize("length", [0, 10, 4096, 5000, 12_000, 16_383])
def test_a_shortened_segment_is_refused(filled: Recovered, disk: MemoryFiles, length: int) -> None:
    for path in segments(disk):
        whole = disk.content(path)
        disk.overwrite(path, whole[:length])
        with pytest.raises(CorruptWalError):
            read(disk)
        disk.overwrite(path, whole)


def test_bytes_of_other_places_and_segments_never_verify(filled: Recovered, disk: MemoryFiles) -> None:
    paths = segments(disk)
    last = disk.content(paths[-1])
    used = len(last.rstrip(b"\0"))
    stop = (used + 7) & ~7
    for source in paths:
        content = disk.content(source)
        for start in range(8192, len(content), 1024):
            piece = content[start : start + 1024]
            for target in (stop, start):  # Behind the end, and at the same offset of another segment.
                if target < stop or not any(piece) or target + 1024 > len(last):
                    continue
                disk.overwrite(paths[-1], last[:target] + piece + last[target + 1024 :])
                found = read(disk)
                assert found.verdict is Verdict.TORN
                assert found.log == filled.log
    disk.overwrite(paths[-1], last)


def test_a_restored_older_segment_is_refused(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 1)])
    older = disk.content(segments(disk)[0])
    index = 2
    while opened.wal.stats.segments == 0:
        opened.wal.append([batch(index, index, data_bytes=900)])
        index += 1
    opened.close()
    disk.overwrite(segments(disk)[0], older)
    with pytest.raises(CorruptWalError):
        read(disk)


def test_a_commit_index_behind_the_log_is_refused(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 3)])
    opened.wal._end = opened.wal._end._replace(index=9)  # As if the check at the time of writing had been missing.
    with pytest.raises(CorruptWalError):
        opened.wal.append([WalBatch(HardState(1, 1, 9), [])])
        read(disk)
