"""The snapshots of a data folder: saved and received so that a crash leaves a whole one or none, two of them kept.

A file counts once the write-ahead log has a record of it. The order of every save: temporary name, write, fsync, read
back and verify, rename, fsync of the folder; then the record and its sync; only then may older segments and snapshots
go. What is found without a record is left over from a crash, or was never asked for.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from raftactors.core.types import Snapshot
from raftactors.errors import WAY_OUT_OF_DAMAGE, CorruptSnapshotError, CorruptWalError, StorageError
from raftactors.storage.files import FileSystem, ensure_directory
from raftactors.storage.opening import OpenedStorage
from raftactors.storage.record import SnapshotRecord
from raftactors.storage.snapshot_file import (
    SnapshotHeader,
    SnapshotReader,
    encode_chunk,
    encode_header,
    encode_trailer,
    header_seed,
    make_trailer,
    parse_snapshot_name,
    snapshot_name,
)

SNAPSHOTS_KEPT = 2

TEMPORARY_SUFFIX = ".tmp"
PARTIAL_SUFFIX = ".part"
"""Of a snapshot that is being received; it stays over a restart so that the transfer can go on."""

_SYNC_BYTES = 4 * 1024 * 1024
"""Written between two syncs, so that the sync of the log never waits for much of a snapshot."""

log = logging.getLogger("raftactors.storage")


class SnapshotSummary(NamedTuple):
    """One snapshot file as a listing shows it."""

    name: str
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    bytes: int


class SnapshotFolder:
    """The folder `snap` of a data folder. Any thread may call; each file has one writer."""

    def __init__(self, files: FileSystem, path: Path, *, cluster_id: int) -> None:
        self.files = files
        self.path = path
        self.cluster_id = cluster_id

    def listing(self) -> list[SnapshotSummary]:
        """What is there by name, the oldest index first; nothing is verified."""
        found = []
        for name in self.files.listdir(self.path) if self.files.exists(self.path) else []:
            parsed = parse_snapshot_name(name)
            if parsed is not None:
                descriptor = self.files.open(self.path / name)
                size = self.files.size(descriptor)
                self.files.close(descriptor)
                found.append(SnapshotSummary(name, *parsed, size))
        return sorted(found, key=lambda summary: (summary.index, summary.term))

    def reader(self, term: int, index: int) -> SnapshotReader:
        """Open the snapshot that ends at this entry. Raises CorruptSnapshotError if it is not there or not whole."""
        path = self.path / snapshot_name(term, index)
        return SnapshotReader(self.files, path, cluster_id=self.cluster_id, expected=(term, index))

    def save(self, header: SnapshotHeader, content: Iterable[bytes]) -> Snapshot:
        """Write a snapshot from pieces of any size, and return when it is durable under its name.

        Raises OSError when the disk refuses, CorruptSnapshotError when it gives back something else than was written,
        and whatever `content` raises; nothing but a temporary file is left behind then, and that is removed.
        """
        writer = SnapshotWriter(self.files, self.path, header)
        try:
            for piece in content:
                writer.write(piece)
            return writer.finish()
        except Exception:
            writer.abort()
            raise

    def purge(self, older_index: int) -> int:
        """Remove the snapshots that end before `older_index`, the older one of those to keep; returns how many.

        To be called when the segments that lead up to `older_index` are gone for good. A newer file that the log does
        not speak of yet stays: it may be one that has just arrived.
        """
        doomed = [summary for summary in self.listing() if summary.index < older_index]
        for summary in doomed:
            self.files.unlink(self.path / summary.name)
        if doomed:
            self.files.fsync_dir(self.path)
        return len(doomed)

    def tidy(self, records: Iterable[SnapshotRecord]) -> None:
        """Remove what a crash left: temporary files, and snapshots that the log has no record of."""
        ensure_directory(self.files, self.path)
        recorded = {snapshot_name(record.term, record.index) for record in records}
        doomed = [name for name in self.files.listdir(self.path) if name.endswith(TEMPORARY_SUFFIX)]
        doomed += [summary.name for summary in self.listing() if summary.name not in recorded]
        for name in doomed:
            self.files.unlink(self.path / name)
        # Also without any: a rename of a process that was killed may still be in memory only.
        self.files.fsync_dir(self.path)

    def choose(self, opened: OpenedStorage) -> Snapshot | None:
        """The snapshot that a start begins from: the newest that the log vouches for and that verifies.

        None when the log has no record of any and reaches back to its first entry. A damaged one is passed over for an
        older one as long as the log holds every entry behind that. Raises CorruptSnapshotError when none is left.
        """
        records = bootable(opened)
        faults: list[str] = []
        for record in records:
            if opened.last_index < record.index:
                raise CorruptWalError(
                    f"{self.path.parent}: the log ends at index {opened.last_index}, before the snapshot at index "
                    f"{record.index} that it vouches for; {WAY_OUT_OF_DAMAGE}"
                )
            try:
                reader = self.reader(record.term, record.index)
                try:
                    reader.verify()
                    return reader.snapshot
                finally:
                    reader.close()
            except CorruptSnapshotError as error:
                log.error("%s; trying the one before it", error)
                faults.append(str(error))
        if opened.base.index == 0:
            if faults:
                log.error("%s: no snapshot is good, but the log is whole: it is replayed from its start", self.path)
            return None
        raise CorruptSnapshotError(
            f"{self.path}: no snapshot to start from, and the log begins behind index {opened.base.index}: "
            f"{'; '.join(faults) or 'the log vouches for none'}; {WAY_OUT_OF_DAMAGE}"
        )


def bootable(opened: OpenedStorage) -> list[SnapshotRecord]:
    """The snapshots that the log vouches for and whose following entries it holds, the newest first."""
    commit = opened.hard_state.commit
    newest = {record.index: record for record in opened.records if opened.base.index <= record.index <= commit}
    return [newest[index] for index in sorted(newest, reverse=True)]


class SnapshotWriter:
    """Writes one snapshot under a temporary name; `finish` makes it durable and gives it its own."""

    def __init__(self, files: FileSystem, folder: Path, header: SnapshotHeader) -> None:
        self._files = files
        self._folder = folder
        self._header = header
        self._temporary = folder / f"{header.name}{TEMPORARY_SUFFIX}"
        if files.exists(self._temporary):
            files.unlink(self._temporary)
        block = encode_header(header)
        self._seed = header_seed(block)
        self._digest = hashlib.sha256()
        self._descriptor = files.open(self._temporary, create=True)
        self._offset = self._unsynced = self._chunks = self._content_bytes = 0
        self._waiting = bytearray()
        try:
            self._put(block)
        except Exception:
            self.abort()
            raise

    @property
    def file_bytes(self) -> int:
        """Bytes written so far."""
        return self._offset

    def write(self, piece: bytes) -> None:
        """Take the next piece of content."""
        waiting, size = self._waiting, self._header.chunk_bytes
        waiting += piece
        if len(waiting) < size:
            return
        view = memoryview(waiting)
        whole = len(waiting) // size * size
        for start in range(0, whole, size):
            self._put_chunk(view[start : start + size])
        view.release()
        del waiting[:whole]

    def finish(self) -> Snapshot:
        """Write the end, sync, read everything back, and rename. Raises OSError, CorruptSnapshotError."""
        files, name = self._files, self._header.name
        if self._waiting:
            self._put_chunk(memoryview(bytes(self._waiting)))
            self._waiting.clear()
        trailer = make_trailer(self._content_bytes, self._header.chunk_bytes, self._digest.digest())
        files.pwrite(self._descriptor, encode_trailer(trailer), self._offset)
        files.fsync(self._descriptor)
        self._close()
        publish(files, self._temporary, self._folder / name, self._header)
        return self._header.snapshot

    def abort(self) -> None:
        """Remove what was written; does nothing after `finish`."""
        self._close()
        if self._files.exists(self._temporary):
            self._files.unlink(self._temporary)

    def _put_chunk(self, body: memoryview) -> None:
        self._put(encode_chunk(self._chunks, body, self._seed))
        self._chunks += 1
        self._content_bytes += len(body)

    def _put(self, content: bytes) -> None:
        self._files.pwrite(self._descriptor, content, self._offset)
        self._digest.update(content)
        self._offset += len(content)
        self._unsynced += len(content)
        if self._unsynced >= _SYNC_BYTES:
            self._files.fdatasync(self._descriptor)
            self._unsynced = 0

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
            self._descriptor = -1


def publish(files: FileSystem, temporary: Path, target: Path, header: SnapshotHeader) -> None:
    """Read a synced file back, compare it with what it should be, and give it its name durably.

    Raises CorruptSnapshotError; the name is not given then.
    """
    snapshot = header.snapshot
    reader = SnapshotReader(files, temporary, cluster_id=header.cluster_id, expected=(snapshot.term, snapshot.index))
    try:
        if reader.header != header:
            raise CorruptSnapshotError(f"{temporary}: holds {reader.header}, written was {header}")
        reader.verify()
    finally:
        reader.close()
    files.rename(temporary, target)
    files.fsync_dir(target.parent)


def open_snapshot_file(files: FileSystem, path: Path) -> SnapshotReader:
    """Open any snapshot file, of any cluster. Raises CorruptSnapshotError, or StorageError if it cannot be read."""
    try:
        return SnapshotReader(files, path, cluster_id=0)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; check the path and its mode") from error
