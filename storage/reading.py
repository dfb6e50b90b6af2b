"""The history in a data folder, read without touching it: no lock, no repair, no sync, and the node may be running.

A running node appends while its log is read. What then looks like damage may be a write that was seen in part, so a
log that does not verify is read again until it does, or until nothing has changed in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raftactors.core.types import Entry, HardState
from raftactors.errors import CorruptWalError, InvariantViolation, NoDataFolderError, StorageError
from raftactors.storage.identity import Identity, stored_identities
from raftactors.storage.inspection import ReadOnlyFiles
from raftactors.storage.record import LogEnd
from raftactors.storage.recovery import Recovered, recover
from raftactors.storage.segment import parse_segment_name
from raftactors.storage.snapshot_file import SnapshotReader
from raftactors.storage.snapshots import SnapshotFolder

ATTEMPTS_MAX = 20
"""How often a log that changes while it is read is read again."""


@dataclass(frozen=True, slots=True)
class StoredHistory:
    """What a data folder tells of the past.

    `entries` are those behind `base`, in order; those up to `commit_index` were committed, later ones may have been.
    `hard_state` is the last one.
    `snapshots` are the ends of the usable snapshots, the oldest first: files that the log vouches for and whose
    following entries it holds. `torn_bytes` of a write that was cut off, or is under way, stand at `torn_offset` of
    `tail_segment`; 0 if the log ends in a whole batch.
    """

    folder: Path
    identity: Identity
    hard_state: HardState
    base: LogEnd
    entries: list[Entry]
    snapshots: tuple[LogEnd, ...]
    torn_bytes: int
    torn_offset: int
    tail_segment: Path

    @property
    def commit_index(self) -> int:
        """Up to where the log knows that entries were committed."""
        return self.hard_state.commit

    @property
    def last_index(self) -> int:
        """Index of the last entry, or of the one before the first if there is none."""
        return self.entries[-1].index if self.entries else self.base.index

    def snapshot_reader(self, snapshot: LogEnd) -> SnapshotReader:
        """One of `snapshots`, for the caller to close. Raises CorruptSnapshotError if it is not there or not whole."""
        return _snapshots(self.folder, self.identity).reader(snapshot.term, snapshot.index)

    def snapshot_content(self, snapshot: LogEnd) -> Iterator[memoryview]:
        """The content of a snapshot in chunks, verified. Raises CorruptSnapshotError or StorageError."""
        reader = self.snapshot_reader(snapshot)
        try:
            yield from reader.chunks()
        finally:
            reader.close()


class _QuietFiles(ReadOnlyFiles):
    """Reads what the operating system holds: a node that runs must not wait for syncs that a reader asks for."""

    def fsync(self, descriptor: int) -> None:
        pass

    def drop_cache(self, descriptor: int) -> None:
        pass

    def lock(self, descriptor: int) -> None:
        raise InvariantViolation("a reader was to lock")


def read_history(folder: Path, *, read_once: Callable[[Path, Identity], Recovered] | None = None) -> StoredHistory:
    """Read the log and look for the snapshots of a node's data folder, whether the node runs or not.

    Raises NoDataFolderError for a folder that is none, CorruptWalError for damage, StorageError if the folder cannot be
    read or changes faster than it is read.
    """
    read = _recover if read_once is None else read_once
    try:
        identities = stored_identities(_QuietFiles(), folder)
        if not identities:
            raise NoDataFolderError(_no_data_folder(folder))
        identity = max(identities, key=lambda found: found.incarnation)
        calm = 0
        for _ in range(ATTEMPTS_MAX):
            before = _fingerprint(folder)
            try:
                recovered = read(folder, identity)
            except (CorruptWalError, FileNotFoundError):
                # A segment may also have been removed, because a snapshot covers it. Time stamps are coarse: only what
                # was seen twice, with no change, is believed.
                calm = calm + 1 if _fingerprint(folder) == before else 0
                if calm > 1:
                    raise
            else:
                return _history(folder, identity, recovered)
    except OSError as error:
        raise StorageError(
            f"{error.filename or folder}: cannot be read: {error.strerror}; check the path, its mode and the disk"
        ) from error
    raise StorageError(
        f"{folder}: the log changed {ATTEMPTS_MAX} times while it was read; read a copy, or stop the node first"
    )


def _recover(folder: Path, identity: Identity) -> Recovered:
    return recover(_QuietFiles(), folder / "wal", cluster_id=identity.cluster_id, node_id=identity.node_id)


def _history(folder: Path, identity: Identity, recovered: Recovered) -> StoredHistory:
    log = recovered.log
    there = {(found.term, found.index) for found in _snapshots(folder, identity).listing()}
    usable = {
        LogEnd(record.term, record.index)
        for record in log.records
        if log.base.index <= record.index <= log.end.index and (record.term, record.index) in there
    }
    return StoredHistory(
        folder=folder,
        identity=identity,
        hard_state=log.hard_state,
        base=log.base,
        entries=log.entries,
        snapshots=tuple(sorted(usable, key=lambda end: end.index)),
        torn_bytes=recovered.torn_bytes,
        torn_offset=recovered.tail.stop,
        tail_segment=folder / "wal" / recovered.tail.header.name,
    )


def _snapshots(folder: Path, identity: Identity) -> SnapshotFolder:
    return SnapshotFolder(_QuietFiles(), folder / "snap", cluster_id=identity.cluster_id)


def _fingerprint(folder: Path) -> list[tuple[str, int, int]]:
    """What changes when the log does."""
    found = []
    for path in sorted((folder / "wal").iterdir()):
        if parse_segment_name(path.name) is not None:
            status = path.stat()
            found.append((path.name, status.st_size, status.st_mtime_ns))
    return found


def _no_data_folder(folder: Path) -> str:
    inside = sorted(path.parent for pattern in ("data", "*/data") for path in folder.glob(f"{pattern}/IDENTITY"))
    if inside:
        return f"{folder} is not the data folder of one node; name one of those in it: {', '.join(map(str, inside))}"
    return f"{folder} is no data folder of a node: there is no IDENTITY; name the folder that has it"
