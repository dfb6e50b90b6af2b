"""Snapshot files and what surrounds them: damage is found, a crash leaves a pair that boots, mutants are caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.errors import CorruptSnapshotError, CorruptWalError, ForeignDataError, InvariantViolation, StorageError
from raftactors.storage import MemoryFiles, OpenedStorage, PowerCut, SimulatedExit, WalBatch, open_data_dir
from raftactors.storage.snapshot_file import (
    CHUNK_HEADER_BYTES,
    HEADER_BYTES,
    MEMBERS_MAX,
    TRAILER_BYTES,
    SnapshotHeader,
    SnapshotReader,
    encode_header,
    snapshot_name,
)
from raftactors.storage.snapshot_receiving import SnapshotReceiver
from raftactors.storage.snapshots import SnapshotFolder

from . import snapshot_workloads as workloads_module
from .conftest import FOLDER, MakeBatch, OpenLog
from .snapshot_workloads import (
    CHUNK_BYTES,
    CLUSTER_ID,
    MEMBERS,
    SnapshottingNode,
    encode_records,
    found_history,
    history,
    made_entries,
)

SNAPSHOT = Snapshot(7, 3, MEMBERS)
HEADER = SnapshotHeader(CLUSTER_ID, SNAPSHOT, 2, CHUNK_BYTES)
CONTENT = Random(5).randbytes(3 * CHUNK_BYTES + 70)
SNAP = Path("/snap")


@pytest.fixture
def folder() -> SnapshotFolder:
    files = MemoryFiles()
    files.mkdir(SNAP)
    return SnapshotFolder(files, SNAP, cluster_id=CLUSTER_ID)


def saved(folder: SnapshotFolder) -> tuple[MemoryFiles, Path, bytes]:
    """One whole snapshot: the disk, the path and the bytes."""
    folder.save(HEADER, [CONTENT[:100], b"", CONTENT[100:]])
    assert isinstance(folder.files, MemoryFiles)
    path = SNAP / snapshot_name(3, 7)
    return folder.files, path, folder.files.content(path)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(CONTENT)])
def test_a_snapshot_comes_back_as_it_was_written(folder: SnapshotFolder, size: int) -> None:
    assert folder.save(HEADER, [CONTENT[:size]]) == SNAPSHOT
    reader = folder.reader(3, 7)
    assert (reader.header, reader.snapshot) == (HEADER, SNAPSHOT)
    assert b"".join(map(bytes, reader.chunks())) == CONTENT[:size]
    reader.close()
    chunks = -(-size // CHUNK_BYTES)
    assert folder.listing() == [
        (snapshot_name(3, 7), 3, 7, HEADER_BYTES + chunks * CHUNK_HEADER_BYTES + size + TRAILER_BYTES)
    ]


def test_every_flipped_bit_and_every_cut_is_found(folder: SnapshotFolder) -> None:
    files, path, whole = saved(folder)

    def refused(content: bytes) -> bool:
        files.overwrite(path, content)
        try:
            reader = folder.reader(3, 7)
        except (CorruptSnapshotError, StorageError):
            return True
        try:
            reader.verify()
        except CorruptSnapshotError:
            return True
        finally:
            reader.close()
        return False

    assert not refused(whole)
    rng = Random(1)
    # Each byte once, with a bit by chance: every bit of the header takes long and is the business of its CRC.
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        assert refused(bytes(damaged)), f"byte {position}"
    for length in range(0, len(whole), 37):
        assert refused(whole[:length]), f"cut at {length}"
    first = HEADER_BYTES
    second = first + CHUNK_HEADER_BYTES + CHUNK_BYTES
    third = second + CHUNK_HEADER_BYTES + CHUNK_BYTES
    assert refused(whole[:first] + whole[second:third] + whole[first:second] + whole[third:]), "chunks exchanged"
    assert refused(whole + b"\0")


def test_a_snapshot_of_another_cluster_or_place_is_refused(folder: SnapshotFolder) -> None:
    files, path, whole = saved(folder)
    other = SnapshotFolder(files, SNAP, cluster_id=CLUSTER_ID + 1)
    with pytest.raises(ForeignDataError, match="cluster 9, expected cluster 10"):
        other.reader(3, 7)
    SnapshotReader(files, path, cluster_id=0).close()
    files.rename(path, SNAP / snapshot_name(3, 8))
    with pytest.raises(CorruptSnapshotError, match="exchanged"):
        folder.reader(3, 8)
    with pytest.raises(CorruptSnapshotError, match="missing"):
        folder.reader(3, 7)
    assert len(whole) > HEADER_BYTES


def test_a_membership_that_does_not_fit_is_refused() -> None:
    most = SNAPSHOT._replace(conf_state=ConfState(tuple(range(1, MEMBERS_MAX + 1))))
    assert len(encode_header(HEADER._replace(snapshot=most))) == HEADER_BYTES
    more = most._replace(conf_state=ConfState(tuple(range(1, MEMBERS_MAX + 2))))
    with pytest.raises(StorageError, match=str(MEMBERS_MAX)):
        encode_header(HEADER._replace(snapshot=more))


def test_content_that_fails_leaves_nothing(folder: SnapshotFolder) -> None:
    def failing() -> object:
        yield b"x" * 1_000
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        folder.save(HEADER, failing())  # type: ignore[arg-type]  # a generator of bytes
    assert folder.files.listdir(SNAP) == []


def test_what_the_disk_gives_back_changed_gets_no_name(folder: SnapshotFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder.files
    read = files.pread

    def rotten(descriptor: int, length: int, offset: int) -> bytes:
        content = read(descriptor, length, offset)
        return content if offset != HEADER_BYTES else b"\0" + content[1:]

    monkeypatch.setattr(files, "pread", rotten)
    with pytest.raises(CorruptSnapshotError, match="chunk 0"):
        folder.save(HEADER, [CONTENT])
    assert files.listdir(SNAP) == []


# --- receiving --------------------------------------------------------------------------------------------------------


def test_a_received_snapshot_equals_the_one_that_was_sent(folder: SnapshotFolder) -> None:
    _, path, whole = saved(folder)
    trailer, records = encode_records(HEADER, CONTENT)
    files = MemoryFiles()
    files.mkdir(SNAP)
    there = SnapshotFolder(files, SNAP, cluster_id=CLUSTER_ID)
    receiver = SnapshotReceiver(there, HEADER, trailer)
    for number, record in enumerate(records):
        receiver.put(number, record)
    assert receiver.finish() == SNAPSHOT
    assert files.content(path) == whole
    assert files.listdir(SNAP) == [path.name]


@pytest.mark.parametrize("cut", range(5))
def test_receiving_goes_on_where_it_was_cut_off(folder: SnapshotFolder, cut: int) -> None:
    trailer, records = encode_records(HEADER, CONTENT)
    receiver = SnapshotReceiver(folder, HEADER, trailer)
    for number in range(min(cut, len(records))):
        receiver.put(number, records[number])
    digest = receiver.digest
    receiver.close()
    again = SnapshotReceiver(folder, HEADER, trailer)
    assert (again.next, again.digest) == (min(cut, len(records)), digest)
    for number in range(again.next, len(records)):
        again.put(number, records[number])
    again.finish()
    folder.reader(3, 7).verify()


def test_wrong_chunks_are_refused_and_damaged_ones_asked_for_again(folder: SnapshotFolder) -> None:
    trailer, records = encode_records(HEADER, CONTENT)
    receiver = SnapshotReceiver(folder, HEADER, trailer)
    receiver.put(0, records[0])
    for number, record in ((1, records[0]), (2, records[2]), (1, records[1][:-1]), (1, b""), (0, records[0])):
        with pytest.raises(CorruptSnapshotError):
            receiver.put(number, record)
    receiver.put(1, records[1])
    receiver.close()
    assert isinstance(folder.files, MemoryFiles)
    part = SNAP / f"{HEADER.name}.part"
    held = bytearray(folder.files.content(part))
    held[HEADER_BYTES + CHUNK_HEADER_BYTES + CHUNK_BYTES + 30] ^= 1
    folder.files.overwrite(part, bytes(held))
    assert SnapshotReceiver(folder, HEADER, trailer).next == 1


def test_chunks_that_do_not_add_up_are_forgotten(folder: SnapshotFolder) -> None:
    trailer, records = encode_records(HEADER, CONTENT)
    receiver = SnapshotReceiver(folder, HEADER, trailer._replace(sha256=bytes(32)))
    for number, record in enumerate(records):
        receiver.put(number, record)
    with pytest.raises(CorruptSnapshotError, match="add up"):
        receiver.finish()
    assert folder.files.listdir(SNAP) == []


def test_a_newer_offer_drops_what_was_held_of_an_older_one(folder: SnapshotFolder) -> None:
    trailer, records = encode_records(HEADER, CONTENT)
    old = SnapshotReceiver(folder, HEADER, trailer)
    old.put(0, records[0])
    old.close()
    newer = HEADER._replace(snapshot=SNAPSHOT._replace(index=9))
    SnapshotReceiver(folder, newer, encode_records(newer, CONTENT)[0])
    assert folder.files.listdir(SNAP) == [f"{newer.name}.part"]


# --- what a start begins from -----------------------------------------------------------------------------------------


def filled_node(disk: MemoryFiles, opened: OpenedStorage, snapshots: tuple[int, ...] = (9, 21, 34)) -> SnapshottingNode:
    node, rng = SnapshottingNode(disk, opened), Random(3)
    for index in snapshots:
        while len(node.entries) < index + 3:
            node.append(rng, 2, 1_300)
        node.take_snapshot(index)
    return node


def test_the_newest_good_snapshot_is_chosen(disk: MemoryFiles, open_log: OpenLog) -> None:
    node = filled_node(disk, open_log())
    node.opened.close()
    names = disk.listdir(FOLDER / "snap")
    assert names == [snapshot_name(1, 21), snapshot_name(1, 34)]
    assert disk.listdir(FOLDER / "wal")[0] > "0000000000000002"
    opened = open_log()
    assert found_history(opened) == history(node.entries)
    opened.close()
    for name, expected in ((names[1], 21), (names[0], None)):
        content = bytearray(disk.content(FOLDER / "snap" / name))
        content[HEADER_BYTES + 40] ^= 1
        disk.overwrite(FOLDER / "snap" / name, bytes(content))
        opened = open_log()
        if expected is None:
            with pytest.raises(CorruptSnapshotError, match=f"{names[0]}.*chunk 0") as caught:
                found_history(opened)
            assert "log begins behind index" in str(caught.value)
        else:
            chosen = workloads_module.folder_of(opened).choose(opened)
            assert chosen is not None
            assert chosen.index == expected
            assert found_history(opened) == history(node.entries)
        opened.close()


def test_without_a_good_snapshot_a_whole_log_is_replayed(disk: MemoryFiles, open_log: OpenLog) -> None:
    node = filled_node(disk, open_log(), (5,))
    node.opened.close()
    disk.unlink(FOLDER / "snap" / snapshot_name(1, 5))
    opened = open_log()
    assert workloads_module.folder_of(opened).choose(opened) is None
    assert found_history(opened) == history(node.entries)


def test_missing_segments_need_a_snapshot_that_covers_them(disk: MemoryFiles, open_log: OpenLog) -> None:
    node = filled_node(disk, open_log())
    node.opened.close()
    oldest = disk.listdir(FOLDER / "wal")[0]
    disk.unlink(FOLDER / "wal" / oldest)
    try:
        opened = open_log()
    except CorruptWalError as error:
        assert "missing" in str(error)
        return
    # The newest snapshot may still cover all that is gone; then nothing is lost.
    assert found_history(opened) == history(node.entries)


def test_leftovers_are_removed_and_records_are_needed(disk: MemoryFiles, open_log: OpenLog) -> None:
    node = filled_node(disk, open_log(), (5,))
    folder = workloads_module.folder_of(node.opened)
    for index in (6, 7):
        header = SnapshotHeader(CLUSTER_ID, Snapshot(index, 1, MEMBERS), 2, CHUNK_BYTES)
        folder.save(header, [b"of no record"])
    disk.rename(folder.path / snapshot_name(1, 7), folder.path / f"{snapshot_name(1, 7)}.tmp")
    node.opened.close()
    opened = open_log()
    folder = workloads_module.folder_of(opened)
    chosen = folder.choose(opened)
    assert chosen is not None
    assert chosen.index == 5
    folder.tidy(opened.records)
    assert disk.listdir(folder.path) == [snapshot_name(1, 5)]


def test_a_record_behind_the_end_of_the_log_is_refused(open_log: OpenLog, batch: MakeBatch) -> None:
    opened = open_log()
    opened.wal.append([batch(1, 4)])
    with pytest.raises(InvariantViolation, match="snapshot 5 lies behind the last index 4"):
        opened.wal.append([WalBatch(HardState(1, 1, 4), (), taken=Snapshot(5, 1, MEMBERS))])


def test_records_and_conflicts_survive_a_restart(disk: MemoryFiles, open_log: OpenLog) -> None:
    opened = open_log()
    first = made_entries(Random(1), 6, 1)
    taken = Snapshot(4, 1, MEMBERS)
    behind = made_entries(Random(2), 2, 2, first=6)
    opened.wal.append([WalBatch(None, first), WalBatch(None, (), taken=taken), WalBatch(HardState(2, 1, 5), behind)])
    opened.close()
    for _ in range(2):
        opened = open_log()
        assert opened.entries == [*first[:5], *behind]
        assert opened.records[-1][:2] == (1, 4)
        assert opened.snapshot == Snapshot()
        opened.close()


# --- crashes ----------------------------------------------------------------------------------------------------------


def own(node: SnapshottingNode, rng: Random) -> None:
    while len(node.entries) < 30:
        node.append(rng, 3, 1_200)
    node.take_snapshot(len(node.entries) - 2)


def received(node: SnapshottingNode, rng: Random) -> None:
    node.receive([*node.entries[:26], *made_entries(Random(8), 10, 4, first=27)], 4)


@pytest.mark.parametrize("work", [own, received])
def test_a_power_cut_at_every_call_leaves_a_pair_that_boots(work: Callable[[SnapshottingNode, Random], None]) -> None:
    cut, done = 0, False
    while not done:
        disk, rng = MemoryFiles(), Random(f"{work.__name__}/{cut}")

        def opened_again(disk: MemoryFiles = disk, rng: Random = rng) -> OpenedStorage:
            return open_data_dir(
                FOLDER, cluster_id=9, node_id=1, segment_bytes=16_384, files=disk, random_bytes=rng.randbytes
            )

        node = filled_node(disk, opened_again(), (9, 21))
        before = list(node.entries)
        disk.cut_power(after_calls=cut)
        allowed = []
        try:
            work(node, rng)
            done = True
        except PowerCut:
            allowed = [history(before[:length]) for length in range(len(before), len(before) + 1)]
            # Entries that were appended on the way are there or not, in whole batches.
            allowed += [history(node.entries[:length]) for length in range(len(before), len(node.entries) + 1)]
        disk.crash(rng)
        for _ in range(2):
            opened = opened_again()
            found = found_history(opened)
            assert found in (allowed or [history(node.entries)]), f"cut at call {cut}"
            allowed = [found]
            opened.close()
        cut += 1
    assert cut > 25


def test_a_failed_sync_of_a_snapshot_ends_the_process(disk: MemoryFiles, open_log: OpenLog) -> None:
    node = filled_node(disk, open_log(), (9,))
    disk.fail("fsync", nth=1)
    with pytest.raises(SimulatedExit):
        node.take_snapshot(10)


# --- bugs that others shipped -----------------------------------------------------------------------------------------


def test_a_log_that_begins_below_what_it_continues(disk: MemoryFiles, open_log: OpenLog) -> None:
    node, rng = SnapshottingNode(disk, open_log()), Random(4)
    while node.opened.wal.stats.segments < 1:
        node.append(rng, 1, 1_000)
    last = len(node.entries)
    # Two entries below the beginning of the second segment, which nobody had committed, are replaced in it.
    replacing = [Entry(2, index, b"other") for index in range(last - 1, last + 8)]
    first_of_segment = node.opened.wal._segments[-1][1]
    assert replacing[0].index < first_of_segment
    node.entries = [*node.entries[: last - 2], *replacing]
    node.term = 2
    node.write(WalBatch(HardState(2, 1, last - 2), replacing))
    for index in (last + 2, last + 5):
        node.take_snapshot(index)
    node.opened.close()
    opened = open_log()
    assert opened.base == (0, replacing[0].index - 1)
    assert found_history(opened) == history(node.entries)
