"""Reading a folder that is not ours: nothing is touched, whole batches only, and a node that writes does no harm."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.errors import CorruptSnapshotError, CorruptWalError, ExitCode, NoDataFolderError, StorageError
from raftactors.storage import OpenedStorage, WalBatch, open_data_dir
from raftactors.storage.identity import Identity
from raftactors.storage.reading import ATTEMPTS_MAX, _QuietFiles, _recover, read_history
from raftactors.storage.record import LogEnd
from raftactors.storage.recovery import Recovered, recover
from raftactors.storage.snapshot_file import SnapshotHeader
from raftactors.storage.snapshots import SnapshotFolder

CLUSTER_ID = 9


def open_folder(path: Path) -> OpenedStorage:
    return open_data_dir(path, cluster_id=CLUSTER_ID, node_id=1, segment_bytes=16 * 1024)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OpenedStorage]:
    """A node that has the folder open, with three entries of which two are committed."""
    opened = open_folder(tmp_path / "data")
    opened.wal.append([WalBatch(HardState(1, 1, 0), [Entry(1, 1, b"a"), Entry(1, 2, b"b")])])
    opened.wal.append([WalBatch(HardState(1, 1, 2), [Entry(1, 3, b"c")])])
    yield opened
    opened.close()


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def save_snapshot(opened: OpenedStorage, path: Path, index: int) -> None:
    header = SnapshotHeader(CLUSTER_ID, Snapshot(index, 1, ConfState((1,))), 2, 64)
    SnapshotFolder(opened.files, path / "snap", cluster_id=CLUSTER_ID).save(header, [b"state" * 40])
    opened.wal.append([WalBatch(None, (), taken=Snapshot(index, 1, ConfState((1,))))])


def segment(folder: Path) -> Path:
    return sorted((folder / "wal").glob("*.wal"))[-1]


def test_a_running_node_is_read_and_not_touched(node: OpenedStorage, tmp_path: Path) -> None:
    before = everything(tmp_path)
    history = read_history(tmp_path / "data")
    assert [entry.data for entry in history.entries] == [b"a", b"b", b"c"]
    assert (history.commit_index, history.last_index, history.base, history.torn_bytes) == (2, 3, LogEnd(), 0)
    assert history.identity == Identity(CLUSTER_ID, 1, 1)
    assert everything(tmp_path) == before
    node.wal.append([WalBatch(HardState(1, 1, 3), [Entry(1, 4)])])
    assert read_history(tmp_path / "data").last_index == 4


def test_a_folder_that_may_only_be_read(node: OpenedStorage, tmp_path: Path) -> None:
    node.close()
    folder = tmp_path / "data"
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert read_history(folder).last_index == 3
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o700)


def test_the_history_ends_before_a_torn_batch(node: OpenedStorage, tmp_path: Path) -> None:
    node.close()
    whole = read_history(tmp_path / "data")
    with segment(tmp_path / "data").open("r+b") as file:
        file.seek(whole.torn_offset)
        file.write(b"\xd7\x52" + b"half a record" * 5)
    before = everything(tmp_path)
    torn = read_history(tmp_path / "data")
    assert (torn.last_index, torn.torn_offset) == (3, whole.torn_offset)
    assert torn.torn_bytes > 0
    assert torn.tail_segment == segment(tmp_path / "data")
    assert everything(tmp_path) == before


def test_damage_is_an_error_with_its_place(node: OpenedStorage, tmp_path: Path) -> None:
    node.close()
    with segment(tmp_path / "data").open("r+b") as file:
        file.seek(4096 + 40)
        file.write(b"\xff")
    with pytest.raises(CorruptWalError, match=r"\.wal: damage at offset 4096"):
        read_history(tmp_path / "data")


def test_a_log_that_changes_is_read_again(node: OpenedStorage, tmp_path: Path) -> None:
    """A write seen in part looks like damage; the next look sees it whole."""
    tries = 0

    def racing(folder: Path, identity: Identity) -> Recovered:
        nonlocal tries
        tries += 1
        if tries < 4:
            os.utime(segment(folder), ns=(tries, tries))
            raise CorruptWalError("half of it")
        return _recover(folder, identity)

    assert read_history(tmp_path / "data", read_once=racing).last_index == 3
    assert tries == 4


def test_a_log_that_never_stands_still(node: OpenedStorage, tmp_path: Path) -> None:
    tries = 0

    def racing(folder: Path, identity: Identity) -> Recovered:
        nonlocal tries
        tries += 1
        os.utime(segment(folder), ns=(tries, tries))
        raise FileNotFoundError(2, "gone", str(folder))

    with pytest.raises(StorageError, match=f"changed {ATTEMPTS_MAX} times"):
        read_history(tmp_path / "data", read_once=racing)


def test_the_log_goes_on_to_the_next_segment_while_it_is_read(node: OpenedStorage, tmp_path: Path) -> None:
    """A writer that begins a segment after each listing of the names is followed to the end of its log."""
    rotations = iter(range(3))

    class Racing(_QuietFiles):
        def listdir(self, path: Path) -> list[str]:
            names = super().listdir(path)
            if next(rotations, None) is not None:
                segments = node.wal.stats.segments
                while node.wal.stats.segments == segments:
                    node.wal.append([WalBatch(None, [Entry(1, node.wal.stats.entries + 1, b"x" * 3_000)])])
            return names

    log = recover(Racing(), tmp_path / "data" / "wal", cluster_id=CLUSTER_ID, node_id=1).log
    assert node.wal.stats.segments == len(log.segments) - 1 == 3
    assert [entry.index for entry in log.entries] == list(range(1, node.wal.stats.entries + 1))


def test_reading_beside_a_writer(node: OpenedStorage, tmp_path: Path) -> None:
    """Every look sees a whole log that only grows, over rotations too."""
    stop = threading.Event()

    def write() -> None:
        index = 3
        while not stop.is_set():
            index += 1
            node.wal.append([WalBatch(HardState(1, 1, index - 1), [Entry(1, index, b"x" * 700)])])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [0]
        while len(seen) < 40 or seen[-1] < 100:
            history = read_history(tmp_path / "data")
            assert [entry.index for entry in history.entries] == list(range(1, history.last_index + 1))
            seen.append(history.last_index)
    finally:
        stop.set()
        writer.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[1]


def test_usable_snapshots(node: OpenedStorage, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    save_snapshot(node, folder, 2)
    history = read_history(folder)
    assert history.snapshots == (LogEnd(1, 2),)
    assert b"".join(history.snapshot_content(LogEnd(1, 2))) == b"state" * 40
    file = next((folder / "snap").glob("*.snap"))
    content = bytearray(file.read_bytes())
    content[4096 + 100] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptSnapshotError, match="chunk"):
        list(history.snapshot_content(LogEnd(1, 2)))
    file.unlink()
    assert read_history(folder).snapshots == ()


def test_a_snapshot_that_the_log_does_not_know(node: OpenedStorage, tmp_path: Path) -> None:
    header = SnapshotHeader(CLUSTER_ID, Snapshot(2, 1, ConfState((1,))), 2, 64)
    SnapshotFolder(node.files, tmp_path / "data" / "snap", cluster_id=CLUSTER_ID).save(header, [b"x"])
    assert read_history(tmp_path / "data").snapshots == ()


def test_no_data_folder(node: OpenedStorage, tmp_path: Path) -> None:
    with pytest.raises(NoDataFolderError, match="there is no IDENTITY") as error:
        read_history(tmp_path / "nothing")
    assert error.value.exit_code is ExitCode.NO_DATA_FOLDER
    with pytest.raises(NoDataFolderError, match=f"name one of those in it: {tmp_path / 'data'}"):
        read_history(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        read_history(tmp_path / "file")
