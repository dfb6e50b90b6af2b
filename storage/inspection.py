"""Looking at a data folder without changing it, and the one repair that loses nothing.

Everything is read and judged by `raftactors.storage.recovery` itself, so what is said here is what a node would do at
its start. The folder must not be in use.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from raftactors.codec.entries import decode_entries
from raftactors.errors import DataLockedError, InvariantViolation, StorageError
from raftactors.storage.files import Buffer, FileSystem, RealFiles
from raftactors.storage.identity import Identity, stored_identities
from raftactors.storage.record import RECORD_HEADER_BYTES, RecordType, decode_hard_state, decode_snapshot
from raftactors.storage.recovery import Recovered, Verdict, recover
from raftactors.storage.repair import perform_repairs
from raftactors.storage.replay import StoredBatch
from raftactors.storage.segment import SegmentHeader


class LogRecord(NamedTuple):
    """One record of the log. `index` and `term` are 0 where the record has none; `detail` is the rest in words."""

    segment: str
    offset: int
    batch: int
    kind: str
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    bytes: int
    detail: str


OnRecord = Callable[[LogRecord], None]


@dataclass(frozen=True, slots=True)
class WalInspection:
    """What a log holds and how it ends.

    `stop` is where in `tail_segment` the last good batch ends, `torn_bytes` what stands behind it of a write that was
    cut off. Entries `first_index` to `last_index` can be read; there are none if the first is larger.
    """

    identity: Identity
    verdict: Verdict
    segments: int
    batches: int
    bytes: int
    first_index: int
    last_index: int
    last_term: int
    tail_segment: Path
    stop: int
    torn_bytes: int


class ReadOnlyFiles(RealFiles):
    """The real disk, opened for reading alone. A failed read names its file."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, str] = {}

    def open(self, path: Path, *, create: bool = False) -> int:
        if create:
            raise InvariantViolation(f"{path} was to be made by a reader")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._names[descriptor] = str(path)
        return descriptor

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        try:
            return super().pread(descriptor, length, offset)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._names[descriptor]) from error

    def pwrite(self, descriptor: int, content: Buffer, offset: int) -> None:
        raise InvariantViolation("a reader was to write")

    def lock(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def inspect_wal(path: Path, on_record: OnRecord | None = None) -> WalInspection:
    """Read the whole log of a data folder; `on_record` is told of each record in order.

    Raises what a node would end with at its start: CorruptWalError, ForeignDataError, or StorageError if the folder
    cannot be read; DataLockedError if it is in use. Records before the damage have been told of by then.
    """
    identity, recovered = _recover(ReadOnlyFiles(), path, on_record)
    return _inspection(path, identity, recovered)


def repair_wal(path: Path) -> tuple[WalInspection, Path | None]:
    """Cut off the end of a write that nobody was told of; everything else is refused, as at `inspect_wal`.

    Returns what was found and the copy of the original segment; None if there was nothing to cut off.
    """
    files = RealFiles()
    lock = _lock(ReadOnlyFiles(), path)
    try:
        identity, recovered = _recover_locked(ReadOnlyFiles(), path, None)
        kept = perform_repairs(files, recovered.repairs, identity.incarnation)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        if lock is not None:
            files.close(lock)
    return _inspection(path, identity, recovered), kept


def _inspection(path: Path, identity: Identity, recovered: Recovered) -> WalInspection:
    log = recovered.log
    return WalInspection(
        identity=identity,
        verdict=recovered.verdict,
        segments=recovered.segments,
        batches=recovered.batches,
        bytes=recovered.bytes,
        first_index=log.entries[0].index if log.entries else log.end.index + 1,
        last_index=log.end.index,
        last_term=log.end.term,
        tail_segment=path / "wal" / recovered.tail.header.name,
        stop=recovered.tail.stop,
        torn_bytes=recovered.torn_bytes,
    )


def _recover(files: FileSystem, path: Path, on_record: OnRecord | None) -> tuple[Identity, Recovered]:
    lock = _lock(files, path)
    try:
        return _recover_locked(files, path, on_record)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        if lock is not None:
            files.close(lock)


def _lock(files: FileSystem, path: Path) -> int | None:
    """Keep a node from starting meanwhile; a copy of a folder may lack the file to lock."""
    descriptor = None
    try:
        if not files.exists(path / "LOCK"):
            return None
        descriptor = files.open(path / "LOCK")
        files.lock(descriptor)
    except OSError as error:
        if descriptor is not None:
            files.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise DataLockedError(
                f"{path}: a node has this folder open, so its log changes while it is read; stop the node first"
            ) from error
        raise _unreadable(path, error) from error
    return descriptor


def _recover_locked(files: FileSystem, path: Path, on_record: OnRecord | None) -> tuple[Identity, Recovered]:
    identities = stored_identities(files, path)
    if not identities:
        raise StorageError(
            f"{path}: no IDENTITY here, so this is no data folder of a node; name the folder that has it"
        )
    identity = max(identities, key=lambda found: found.incarnation)

    def on_batch(header: SegmentHeader, content: bytes, number: int, stored: StoredBatch) -> None:
        if on_record is not None:
            for record in _records(header, content, number, stored):
                on_record(record)

    recovered = recover(
        files, path / "wal", cluster_id=identity.cluster_id, node_id=identity.node_id, on_batch=on_batch
    )
    return identity, recovered


def _records(header: SegmentHeader, content: bytes, number: int, stored: StoredBatch) -> list[LogRecord]:
    """The records of one batch in the order in which they were written."""
    found: list[LogRecord] = []

    def put(kind: str, start: int, length: int, *, term: int = 0, index: int = 0, detail: str = "") -> None:
        place = start - RECORD_HEADER_BYTES
        found.append(LogRecord(header.name, place, number, kind, term, index, length, detail))

    for kind, starts, lengths in stored.runs:
        name = RecordType(kind).name.lower()
        for start, length in zip(starts, lengths, strict=True):
            if kind == RecordType.ENTRY:
                (entry,) = decode_entries(content, [start], [length])
                size = "absent" if entry.data is None else f"{len(entry.data)} bytes"
                detail = f"{entry.type.name.lower()}, payload {size}"
                put(name, start, length, term=entry.term, index=entry.index, detail=detail)
            elif kind == RecordType.HARD_STATE:
                state = decode_hard_state(content, start)
                put(name, start, length, term=state.term, detail=f"vote {state.vote}, commit {state.commit}")
            else:
                snapshot = decode_snapshot(content[start : start + length])
                voters = ",".join(map(str, snapshot.conf_state.voters))
                put(name, start, length, term=snapshot.term, index=snapshot.index, detail=f"voters {voters}")
    return found


def _unreadable(path: Path, error: OSError) -> StorageError:
    where = error.filename or path
    return StorageError(
        f"{where}: cannot be read (offset and index unknown): {error.strerror}; check the path and the disk"
    )
