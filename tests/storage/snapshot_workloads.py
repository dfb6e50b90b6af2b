"""What the node does with snapshots, on a disk that records: save, record, purge, receive, and what a start must find.

A history is the list of all payloads ever committed. A snapshot holds the payloads up to its index; whatever a start
finds must, together with the entries behind it, be the history, however much of the log is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from random import Random

from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.errors import StorageError
from raftactors.storage import MemoryFiles, OpenedStorage, WalBatch
from raftactors.storage.purging import SegmentPurge
from raftactors.storage.snapshot_file import (
    SnapshotHeader,
    SnapshotTrailer,
    encode_chunk,
    encode_header,
    header_seed,
    make_trailer,
)
from raftactors.storage.snapshot_receiving import SnapshotReceiver
from raftactors.storage.snapshots import SnapshotFolder

from .tape import FOLDER, Recorder
from .workloads import workload

CLUSTER_ID = 9
CHUNK_BYTES = 256
MEMBERS = ConfState((1, 2, 3))


def folder_of(opened: OpenedStorage) -> SnapshotFolder:
    """The snapshots of the data folder."""
    return SnapshotFolder(opened.files, FOLDER / "snap", cluster_id=CLUSTER_ID)


def payloads(entries: list[Entry]) -> bytes:
    """Entries as the content of a snapshot: 16 bytes for each."""
    return b"".join(hashlib.blake2b(entry.data or b"", digest_size=16).digest() for entry in entries)


def history(entries: list[Entry]) -> Hashable:
    """What a start must find of these entries, whatever of them stands in a snapshot."""
    return payloads(entries), len(entries)


def found_history(opened: OpenedStorage) -> Hashable:
    """What a start finds: the snapshot that it chooses, and the entries behind it."""
    folder = folder_of(opened)
    folder.tidy(opened.records)
    snapshot = folder.choose(opened)
    content = b""
    if snapshot is not None:
        reader = folder.reader(snapshot.term, snapshot.index)
        content = b"".join(bytes(chunk) for chunk in reader.chunks())
        reader.close()
        assert snapshot.conf_state == MEMBERS
        assert len(content) == 16 * snapshot.index
    index = 0 if snapshot is None else snapshot.index
    behind = [entry for entry in opened.entries if entry.index > index]
    assert [entry.index for entry in behind] == list(range(index + 1, index + 1 + len(behind)))
    return content + payloads(behind), index + len(behind)


class SnapshottingNode:
    """The order of work of the storage actor and the snapshot writer, in one thread."""

    def __init__(self, disk: MemoryFiles, opened: OpenedStorage) -> None:
        self.disk = disk
        self.opened = opened
        self.segments = SegmentPurge(disk, opened.wal.folder)
        self.entries: list[Entry] = []
        self.term = 1

    def append(self, rng: Random, count: int, size: int) -> None:
        """Append entries and commit what was there before."""
        first = len(self.entries) + 1
        made = [Entry(self.term, first + i, rng.randbytes(size)) for i in range(count)]
        self.entries += made
        self.write(WalBatch(HardState(self.term, 1, first - 1), made))

    def write(self, batch: WalBatch) -> None:
        """Make a batch durable."""
        self.opened.wal.append([batch])

    def take_snapshot(self, index: int) -> None:
        """Save, record, purge: what a node does with its own snapshot."""
        snapshot = Snapshot(index, self.entries[index - 1].term, MEMBERS)
        content = payloads(self.entries[:index])
        header = SnapshotHeader(CLUSTER_ID, snapshot, 2, CHUNK_BYTES)
        folder_of(self.opened).save(header, [content[i : i + 100] for i in range(0, len(content), 100)])
        self.write(WalBatch(HardState(self.term, 1, index), (), taken=snapshot))
        self.purge()

    def purge(self) -> None:
        """Remove what the two newest snapshots make superfluous; what cannot be removed now stays for later."""
        wal = self.opened.wal
        self.segments.add(wal.release_segments())
        kept = wal.kept_snapshots()
        with suppress(OSError):
            self.segments.run()
            folder_of(self.opened).purge(kept[0].index if len(kept) > 1 else 0)

    def receive(self, entries: list[Entry], term: int) -> None:
        """Receive the snapshot of another node's history and let the log begin anew behind it."""
        snapshot = Snapshot(len(entries), entries[-1].term, MEMBERS)
        content = payloads(entries)
        header = SnapshotHeader(CLUSTER_ID, snapshot, 2, CHUNK_BYTES)
        trailer, records = encode_records(header, content)
        receiver = SnapshotReceiver(folder_of(self.opened), header, trailer)
        for number in range(receiver.next, len(records)):
            receiver.put(number, records[number])
        receiver.finish()
        self.entries, self.term = list(entries), term
        self.write(WalBatch(HardState(term, 0, snapshot.index), (), snapshot))
        self.purge()


def encode_records(header: SnapshotHeader, content: bytes) -> tuple[SnapshotTrailer, list[bytes]]:
    """The trailer and the chunks of a snapshot that was never written here."""
    block = encode_header(header)
    size = header.chunk_bytes
    parts = [content[i : i + size] for i in range(0, len(content), size)]
    records = [encode_chunk(number, part, header_seed(block)) for number, part in enumerate(parts)]
    digest = hashlib.sha256(block + b"".join(records)).digest()
    return make_trailer(len(content), size, digest), records


@contextmanager
def refusals_named() -> Iterator[None]:
    """What the disk refuses ends a workload as it ends the storage: with a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(str(error)) from error


class RecordedNode(SnapshottingNode):
    """Keeps the books of what may be found while it works on a recording disk."""

    def __init__(self, disk: Recorder) -> None:
        disk.begin(history([]))
        disk.acknowledge()
        super().__init__(disk, disk.open_storage())
        self._recorder = disk

    def write(self, batch: WalBatch) -> None:
        self._recorder.begin(history(self.entries))
        super().write(batch)
        self._recorder.acknowledge()
        self._recorder.freeze()

    def end(self) -> None:
        """Close the folder."""
        self.opened.close()
        self._recorder.freeze()


@workload("own snapshots", found_history)
def own_snapshots(disk: Recorder) -> None:
    """Three snapshots, so that segments and the first snapshot go."""
    with refusals_named():
        node = RecordedNode(disk)
        for index in (9, 21, 34):
            while len(node.entries) < index + 3:
                node.append(disk.rng, 4, 1_300)
            node.take_snapshot(index)
        assert node.opened.wal.release_segments() == []
        node.end()


@workload("received snapshot", found_history)
def received_snapshot(disk: Recorder) -> None:
    """A snapshot of another node over a log of its own, then one more of its own, then another received one."""
    with refusals_named():
        node = RecordedNode(disk)
        node.append(disk.rng, 4, 900)
        node.take_snapshot(3)
        node.receive(made_entries(disk.rng, 30, 2), 2)
        for _ in range(9):
            node.append(disk.rng, 1, 1_500)
        node.take_snapshot(35)
        node.receive([*node.entries[:36], *made_entries(disk.rng, 20, 3, first=37)], 3)
        node.append(disk.rng, 2, 700)
        node.end()


@workload("conflict below a purge", found_history)
def conflict_below_a_purge(disk: Recorder) -> None:
    """The oldest segment that stays begins with entries that replaced some of the segment before it."""
    with refusals_named():
        node = RecordedNode(disk)
        node.append(disk.rng, 8, 1_300)
        replaced = node.entries[:4]
        node.term = 2
        while node.opened.wal.stats.segments < 1:
            node.append(disk.rng, 1, 1_000)
        # What was appended last was committed by nobody: another leader's entries come in its place.
        first = len(node.entries)
        node.entries = [*node.entries[: first - 1], *made_entries(disk.rng, 12, 3, first=first, size=1_000)]
        node.term = 3
        node.write(WalBatch(HardState(3, 1, first - 1), node.entries[first - 1 :]))
        assert replaced == node.entries[:4]
        for index in (first + 2, first + 5, first + 9):
            node.take_snapshot(index)
            node.append(disk.rng, 2, 900)
        node.end()


def made_entries(rng: Random, count: int, term: int, *, first: int = 1, size: int = 200) -> list[Entry]:
    """Entries as another node has them."""
    return [Entry(term, first + i, rng.randbytes(size)) for i in range(count)]
