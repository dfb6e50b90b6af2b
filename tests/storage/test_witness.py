"""The witness: what counts as an old copy, what a torn, foreign or missing witness means, and what it costs a disk."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from raftactors.config import Durability, Member, NodeConfig
from raftactors.core.types import Entry, HardState, Snapshot
from raftactors.errors import ConfigError, DataLostError, ExitCode, ForeignDataError, StorageError
from raftactors.storage import MemoryFiles, OpenedStorage, SimulatedExit, WalBatch, open_data_dir
from raftactors.storage.files import Buffer, MappedFile, RealFiles
from raftactors.storage.identity import Identity
from raftactors.storage.record import LogEnd, crc32c
from raftactors.storage.witness import Shown, Witness, forgotten, open_witness, read_witness

from .tape import Content, Names, PlainFiles

FOLDER = Path("/node/1")
WITNESS = Path("/witness/1")
SHOWN = Shown(9, 1, 40, 3, 7, 2, LogEnd(6, 50))


@pytest.mark.parametrize(
    ("incarnation", "hard_state", "end", "lacks"),
    [
        (3, HardState(7, 2, 0), LogEnd(6, 50), ""),
        (3, HardState(7, 2, 50), LogEnd(6, 51), ""),
        (3, HardState(7, 2, 0), LogEnd(7, 20), ""),
        (3, HardState(8, 0, 0), LogEnd(6, 50), ""),
        (3, HardState(8, 3, 0), LogEnd(6, 50), ""),
        (3, HardState(6, 2, 0), LogEnd(6, 50), "is of term 6, but the node has shown term 7"),
        (3, HardState(6, 2, 0), LogEnd(6, 60), "is of term 6"),
        (3, HardState(7, 0, 0), LogEnd(6, 50), "has vote 0 in term 7, but the node has voted for 2"),
        (3, HardState(7, 3, 0), LogEnd(6, 50), "has vote 3 in term 7"),
        (3, HardState(7, 2, 0), LogEnd(6, 49), "ends at index 49 of term 6, but .* up to index 50 of term 6"),
        (3, HardState(7, 2, 0), LogEnd(5, 90), "ends at index 90 of term 5"),
        (3, HardState(9, 2, 0), LogEnd(6, 49), "ends at index 49"),
        (3, HardState(9, 2, 0), LogEnd(), "ends at index 0 of term 0"),
        (2, HardState(9, 2, 0), LogEnd(9, 90), "has incarnation 2, but the node has served with 3"),
        # Opened since, and compared then; or the witness went without the node for a while.
        (4, HardState(1, 0, 0), LogEnd(), ""),
    ],
)
def test_what_data_lacks_of_what_was_shown(incarnation: int, hard_state: HardState, end: LogEnd, lacks: str) -> None:
    found = forgotten(SHOWN, incarnation, hard_state, end)
    assert bool(found) == bool(lacks)
    assert not lacks or re.search(lacks, found)


def test_a_vote_that_was_not_shown_yet_is_no_old_copy() -> None:
    assert forgotten(SHOWN._replace(vote=0), 3, HardState(7, 3, 0), SHOWN.end) == ""


class Stores(PlainFiles):
    """Remembers the file before each store, and what was to be stored where."""

    def __init__(self) -> None:
        super().__init__({"/": None, "/witness": None})
        self.stores: list[tuple[bytes, int, bytes]] = []

    def map(self, descriptor: int, length: int) -> MappedFile:
        return RememberedStores(self, self._open[descriptor])


class RememberedStores:
    def __init__(self, disk: Stores, content: Content) -> None:
        self._disk = disk
        self._data = content.data

    def __setitem__(self, span: slice, content: Buffer) -> None:
        self._disk.stores.append((bytes(self._data), span.start, bytes(content)))
        self._data[span] = content

    def close(self) -> None:
        pass


def read(files: PlainFiles | MemoryFiles | RealFiles, path: Path = WITNESS) -> Shown | None:
    return read_witness(files, path, cluster_id=9, node_id=1)


def make(files: PlainFiles | MemoryFiles) -> Witness:
    witness = open_witness(files, WITNESS, Identity(9, 1, 3), None)
    assert witness is not None
    return witness


def test_a_kill_at_any_byte_of_any_store_leaves_what_was_or_what_is_shown() -> None:
    disk = Stores()
    witness = make(disk)
    witness.begin(HardState(1, 2, 0), LogEnd(1, 1))
    witness.show(HardState(1, 2, 0), LogEnd(1, 9))
    witness.show(HardState(2, 0, 0), LogEnd(2, 12))
    witness.lower(LogEnd(1, 4))
    witness.show(HardState(3, 1, 0), LogEnd(3, 7))
    assert len(disk.stores) == 7
    was: Shown | None = None
    for before, start, stored in disk.stores:
        found = []
        for length in range(len(stored) + 1):
            torn = before[:start] + stored[:length] + before[start + length :]
            names: Names = {"/": None, "/witness": None, str(WITNESS): Content(torn)}
            found.append(read(PlainFiles(names)))
        assert set(found) == {was, found[-1]}
        was = found[-1]
    assert was == Shown(9, 1, 7, 3, 3, 1, LogEnd(3, 7))


def test_the_witness_is_lowered_in_both_halves_and_durably_and_only_if_it_must() -> None:
    disk = MemoryFiles()
    disk.mkdir(Path("/witness"))
    witness = make(disk)
    witness.begin(HardState(1, 2, 0), LogEnd(1, 9))
    calls = len(disk.calls)
    witness.lower(LogEnd(1, 9))
    witness.lower(LogEnd(2, 3))
    assert len(disk.calls) == calls
    witness.lower(LogEnd(1, 8))
    assert disk.calls[calls:] == [("store", "1"), ("store", "1"), ("fdatasync", "1")]
    content = disk.content(WITNESS)
    for start in (0, 2_048):
        half = bytearray(4_096)
        half[start : start + 100] = content[start : start + 100]
        disk.overwrite(WITNESS, bytes(half))
        found = read(disk)
        assert found is not None
        assert found.end == LogEnd(1, 8)


def test_a_witness_of_another_node_or_format_is_refused_with_the_way_out() -> None:
    disk = Stores()
    witness = make(disk)
    witness.show(HardState(1, 2, 0), LogEnd(1, 9))
    for cluster_id, node_id in ((8, 1), (9, 2)):
        with pytest.raises(ForeignDataError, match=r"witness of cluster 9, node 1, .*witness_path of its own") as error:
            read_witness(disk, WITNESS, cluster_id=cluster_id, node_id=node_id)
        assert error.value.exit_code == ExitCode.DATA_FOREIGN
    _, start, stored = disk.stores[-1]
    changed = stored[:8] + b"\x02" + stored[9:-4]
    content = Content((bytes(start) + changed + crc32c(changed).to_bytes(4, "little")).ljust(4_096, b"\0"))
    with pytest.raises(StorageError, match="found format 2, expected 1"):
        read(PlainFiles({str(WITNESS): content}))


@pytest.mark.parametrize("content", [b"", b"x" * 50, b"x" * 4_096, b"x" * 9_000])
def test_a_witness_that_does_not_verify_tells_nothing_and_is_made_anew(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    disk = PlainFiles({"/": None, "/witness": None, str(WITNESS): Content(content)})
    with caplog.at_level(logging.WARNING):
        assert read(disk) is None
    assert ("neither slot of the witness verifies" in caplog.text) == bool(content)
    make(disk).begin(HardState(1, 2, 0), LogEnd(1, 9))
    found = read(disk)
    assert found is not None
    assert found.end == LogEnd(1, 9)
    assert len(disk.names[str(WITNESS)].data) == 4_096  # type: ignore[union-attr]


class Node:
    """A data folder with a witness on a real disk; closes what it opened."""

    def __init__(self, path: Path) -> None:
        self.data = path / "data"
        self.witness = path / "witness" / "node-1"
        self.opened: list[OpenedStorage] = []

    def open(self, durability: str = "fsync") -> OpenedStorage:
        opened = open_data_dir(
            self.data,
            cluster_id=9,
            node_id=1,
            segment_bytes=16_384,
            durability=Durability.parse(durability),
            witness_path=self.witness,
        )
        self.opened.append(opened)
        return opened

    def content(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.data.rglob("*")) if path.is_file()}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    for opened in node.opened:
        opened.close()


def put_back(node: Node, content: dict[str, bytes]) -> None:
    for path in node.content():
        Path(path).unlink()
    for name, data in content.items():
        Path(name).write_bytes(data)


def entries(term: int, first: int, last: int) -> list[Entry]:
    return [Entry(term, index, b"%d" % index) for index in range(first, last + 1)]


CHANGES = {
    "entry": WalBatch(None, entries(1, 6, 6)),
    "term": WalBatch(HardState(2, 0, 0), ()),
    "vote": WalBatch(HardState(1, 2, 0), ()),
    "conflict": WalBatch(HardState(2, 0, 0), entries(2, 4, 4)),
    "snapshot": WalBatch(HardState(1, 0, 20), (), Snapshot(20, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_from_before_a_promise_is_refused_as_often_as_it_is_tried_and_left_as_it_is(
    node: Node, change: str
) -> None:
    opened = node.open()
    opened.wal.append([WalBatch(HardState(1, 0, 0), entries(1, 1, 5))])
    copy = node.content()
    opened.wal.append([CHANGES[change]])
    opened.close()
    true = node.content()
    put_back(node, copy)
    for _ in range(2):
        with pytest.raises(DataLostError, match=r"/data: an old copy: it .*raftactors rebuild") as refused:
            node.open()
        assert refused.value.exit_code == ExitCode.DATA_LOST
        assert {name: data for name, data in node.content().items() if "LOCK" not in name} == {
            name: data for name, data in copy.items() if "LOCK" not in name
        }
    put_back(node, true)
    node.open()


def test_a_copy_from_after_the_last_promise_is_as_good_as_the_data(node: Node) -> None:
    opened = node.open()
    opened.wal.append([WalBatch(HardState(1, 2, 0), entries(1, 1, 5))])
    copy = node.content()
    opened.wal.append([WalBatch(HardState(1, 2, 5), ())])  # A commit index is no promise.
    opened.close()
    put_back(node, copy)
    assert node.open().last_index == 5


def test_an_empty_folder_and_a_copy_from_before_the_last_start_are_refused_by_the_witness_alone(node: Node) -> None:
    node.open().close()
    copy = node.content()
    node.open().close()
    put_back(node, copy)
    with pytest.raises(DataLostError, match=r"an old copy of incarnation 1, but this node has served with .* 2"):
        node.open()
    put_back(node, {})
    with pytest.raises(DataLostError, match="nothing is here, but this node has served with incarnation 2"):
        node.open()


def test_without_a_witness_nothing_is_noticed_and_one_is_made(node: Node) -> None:
    """A folder of an earlier version, or a witness that somebody removed."""
    opened = node.open()
    opened.wal.append([WalBatch(HardState(1, 0, 0), entries(1, 1, 5))])
    copy = node.content()
    opened.wal.append([WalBatch(None, entries(1, 6, 9))])
    opened.close()
    put_back(node, copy)
    node.witness.unlink()
    node.witness.parent.rmdir()
    assert node.open().last_index == 5
    found = read(RealFiles(), node.witness)
    assert found is not None
    assert (found.incarnation, found.end) == (2, LogEnd(1, 5))
    assert node.witness.stat().st_mode & 0o777 == 0o600
    assert node.witness.stat().st_blocks * 512 >= 4_096


def test_a_log_that_shrank_while_the_witness_was_not_in_use_is_the_truth(node: Node) -> None:
    """As after some time with an earlier version, which does not lower it."""
    opened = node.open()
    opened.wal.append([WalBatch(HardState(1, 0, 0), entries(1, 1, 5))])
    opened.close()
    opened = open_data_dir(node.data, cluster_id=9, node_id=1, segment_bytes=16_384)
    opened.wal.append([WalBatch(HardState(2, 0, 0), entries(1, 3, 3))])
    opened.close()
    assert node.open().last_index == 3
    found = read(RealFiles(), node.witness)
    assert found is not None
    assert found.end == LogEnd(1, 3)


@pytest.mark.parametrize(("durability", "index"), [("interval:60000", 5), ("none", 5), ("fsync", 9)])
def test_what_is_not_synced_is_not_shown(node: Node, durability: str, index: int) -> None:
    opened = node.open(durability)
    opened.wal.append([WalBatch(HardState(1, 0, 0), entries(1, 1, 5))])
    opened.wal.sync()
    opened.wal.append([WalBatch(None, entries(1, 6, 9))])
    found = read(RealFiles(), node.witness)
    assert found is not None
    assert found.end.index == index


class FullDisk(RealFiles):
    """Has no room for anything new beside the data; what is there can be written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def open(self, path: Path, *, create: bool = False) -> int:
        if create and path.is_relative_to(self._path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().open(path, create=create)


def test_a_full_disk_keeps_no_node_from_starting(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    files = FullDisk(node.witness.parent)
    with caplog.at_level(logging.WARNING):
        opened = open_data_dir(
            node.data, cluster_id=9, node_id=1, segment_bytes=16_384, files=files, witness_path=node.witness
        )
    opened.wal.append([WalBatch(HardState(1, 0, 0), entries(1, 1, 5))])
    opened.close()
    assert opened.witness is None
    assert "no witness: [Errno 28] No space left on device" in caplog.text
    assert "would go unnoticed" in caplog.text


def test_a_witness_with_holes_gets_its_blocks_at_the_start(node: Node) -> None:
    node.open().close()
    content = node.witness.read_bytes()
    node.witness.unlink()
    with node.witness.open("wb") as file:
        file.truncate(4_096)
    assert node.witness.stat().st_blocks == 0
    node.open()
    assert node.witness.stat().st_blocks * 512 >= len(content)


def test_a_witness_in_the_data_folder_is_refused(tmp_path: Path) -> None:
    member = Member(node_id=1, peer_address="127.0.0.1:1", client_address="127.0.0.1:2")

    def configure(witness: Path) -> NodeConfig:
        data = tmp_path / "data"
        return NodeConfig(cluster_id=9, node_id=1, data_dir=data, members=(member,), witness_path=str(witness))

    with pytest.raises(ConfigError, match=r"which is in the data folder .*: a copy of the data would take it along"):
        configure(tmp_path / "data" / "witness")
    config = configure(tmp_path / "witness")
    assert NodeConfig.from_json(config.to_json()) == config


def test_a_failed_sync_while_lowering_ends_the_process_before_the_log_is_written() -> None:
    disk = MemoryFiles()
    opened = open_data_dir(
        FOLDER, cluster_id=9, node_id=1, segment_bytes=16_384, files=disk, random_bytes=Random(1).randbytes,
        witness_path=WITNESS,
    )  # fmt: skip
    opened.wal.append([WalBatch(HardState(1, 0, 0), entries(1, 1, 5))])
    calls = len(disk.calls)
    disk.fail("fdatasync", nth=1)
    with pytest.raises(SimulatedExit):
        opened.wal.append([WalBatch(HardState(2, 0, 0), entries(1, 3, 3))])
    assert [call for call in disk.calls[calls:] if call[0] == "pwrite"] == []
