"""Opening a data folder: lock, identity, recovery, and the log ready for its first append."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from raftactors.config import Durability
from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.errors import WAY_OUT_OF_DAMAGE, CorruptWalError, DataLostError, StorageError
from raftactors.storage.blocks import BLOCK_BYTES
from raftactors.storage.files import FileSystem, RealFiles, ensure_directory, read_whole
from raftactors.storage.identity import Identity, create_identity, lock_folder, raise_incarnation, read_identity
from raftactors.storage.preallocation import Preallocator
from raftactors.storage.record import LogEnd, Place, SnapshotRecord
from raftactors.storage.recovery import Recovered, RecoveryReport, Verdict, recover
from raftactors.storage.repair import nonzero_stop, perform_repairs
from raftactors.storage.replay import LogState
from raftactors.storage.segment import check_segment_bytes
from raftactors.storage.wal import Wal, create_segment, new_segment_header
from raftactors.storage.witness import Shown, Witness, forgotten, open_witness, read_witness

log_to = logging.getLogger(__name__)

_WAL_FOLDER = "wal"
SNAPSHOT_FOLDER = "snap"


@dataclass(slots=True)
class OpenedStorage:
    """What a data folder holds, and its log to append to.

    `snapshot` is the last one taken over from another node. `entries` are all entries behind `base`, in order: behind
    `snapshot`, or behind the segments that are gone because a snapshot covers them (its term is 0 where it is not known
    any more). `records` are the snapshots that the log vouches for; `SnapshotFolder.choose` picks the one to start
    from. `conf` is the membership where it is stored apart from the
    snapshot; None while it never is. `incarnation` is higher than at every earlier open.
    """

    incarnation: int
    hard_state: HardState
    snapshot: Snapshot
    entries: list[Entry]
    conf: ConfState | None
    wal: Wal
    recovery: RecoveryReport
    files: FileSystem
    lock_descriptor: int
    base: LogEnd = LogEnd()  # noqa: RUF009  # immutable
    records: tuple[SnapshotRecord, ...] = ()
    witness: Witness | None = None

    @property
    def last_index(self) -> int:
        """Index of the last entry, or of the one before the first if there is none."""
        return self.entries[-1].index if self.entries else self.base.index

    def close(self) -> None:
        """Close the log and give the lock back. A second call does nothing."""
        try:
            self.wal.close()
        finally:
            if self.witness is not None:
                self.witness.close()
                self.witness = None
            if self.lock_descriptor >= 0:
                self.files.close(self.lock_descriptor)
                self.lock_descriptor = -1


def open_data_dir(
    path: Path,
    *,
    cluster_id: int,
    node_id: int,
    segment_bytes: int,
    files: FileSystem | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
    durability: Durability = Durability(),  # noqa: B008  # frozen
    incarnation: int = 0,
    incarnation_min: int = 0,
    witness_path: Path | None = None,
) -> OpenedStorage:
    """Open the folder, making it at the first boot, and recover its log.

    A folder that is made now has incarnations above `incarnation`, in the place of one that came so far. One that has
    not come to `incarnation_min`, or lacks what the witness at `witness_path` says that the node has shown, is refused
    with DataLostError and left as it is. The witness is made if there is none.
    A `durability` other than `fsync` lets a power cut take back what was acknowledged; it is warned of in the log.
    `segment_bytes` (16 KiB to 1 GiB) is the size of new segments. Raises DataLockedError when another process has the
    folder open, ForeignDataError when it or the witness belongs to another cluster or node, CorruptWalError when
    durable bytes do not verify, StorageError when the format is unknown or the disk refuses, ConfigError for a size
    out of range.
    """
    files = RealFiles() if files is None else files
    segment_bytes = check_segment_bytes(segment_bytes)
    try:
        lock = lock_folder(files, path)
        try:
            identity = read_identity(files, path, cluster_id=cluster_id, node_id=node_id)
            is_new = identity is None
            watch = _Watch(files, witness_path, cluster_id, node_id)
            _check_incarnation(path, identity, max(incarnation_min, watch.incarnation))
            if identity is None:
                identity = Identity(cluster_id, node_id, incarnation)
                _first_boot(files, path, identity, segment_bytes, random_bytes)
            return _open_log(
                files, path, identity, segment_bytes, random_bytes, is_new=is_new, lock=lock, durability=durability,
                watch=watch,
            )  # fmt: skip
        except BaseException:
            files.close(lock)
            raise
    except OSError as error:
        raise StorageError(
            f"{path}: the data folder cannot be used: {error}; repair the disk or the permissions and start again"
        ) from error


class _Watch:
    """The witness of the folder before it is opened: what it tells, None without one."""

    def __init__(self, files: FileSystem, path: Path | None, cluster_id: int, node_id: int) -> None:
        self._files = files
        self._path = path
        self._shown: Shown | None = None
        if path is not None:
            self._shown = read_witness(files, path, cluster_id=cluster_id, node_id=node_id)

    @property
    def incarnation(self) -> int:
        """The least that the folder must have come to."""
        return 0 if self._shown is None else self._shown.incarnation

    def check(self, path: Path, identity: Identity, log: LogState) -> None:
        """Raise DataLostError if the log that was found is less than what the node has shown."""
        if self._shown is None:
            return
        if lacks := forgotten(self._shown, identity.incarnation, log.hard_state, log.end):
            raise DataLostError(f"{path}: an old copy: it {lacks}; {WAY_OUT_OF_DAMAGE}")

    def begin(self, identity: Identity) -> Witness | None:
        """The witness to store into from now on."""
        return None if self._path is None else open_witness(self._files, self._path, identity, self._shown)


def _check_incarnation(path: Path, identity: Identity | None, least: int) -> None:
    if (0 if identity is None else identity.incarnation) < least:
        found = "nothing is here" if identity is None else f"an old copy of incarnation {identity.incarnation}"
        raise DataLostError(
            f"{path}: {found}, but this node has served with incarnation {least}: it has forgotten its vote and what "
            f"it acknowledged since; {WAY_OUT_OF_DAMAGE}"
        )


def _first_boot(
    files: FileSystem, path: Path, identity: Identity, segment_bytes: int, random_bytes: Callable[[int], bytes]
) -> None:
    """Make a folder from nothing, or from what a first boot left that did not come to its end; IDENTITY comes last."""
    folder = path / _WAL_FOLDER
    ensure_directory(files, folder)
    ensure_directory(files, path / SNAPSHOT_FOLDER)
    for name in files.listdir(folder):
        if name.endswith(".wal"):
            _check_unused(files, folder / name)
        files.unlink(folder / name)
    files.fsync_dir(folder)
    header = new_segment_header(
        identity,
        sequence=1,
        first_number=1,
        segment_bytes=segment_bytes,
        end=LogEnd(),
        hard_state=HardState(),
        snapshot=Snapshot(),
        chain=0,
        random_bytes=random_bytes,
    )
    files.close(create_segment(files, folder, header, Preallocator(files, folder)))
    files.fsync_dir(path)
    create_identity(files, path, identity)


def _check_unused(files: FileSystem, segment: Path) -> None:
    """Refuse to start over on top of a log: a folder that lost its IDENTITY is not a new one."""
    descriptor = files.open(segment)
    try:
        used = nonzero_stop(read_whole(files, descriptor))
    finally:
        files.close(descriptor)
    if used > BLOCK_BYTES:
        raise CorruptWalError(
            f"{segment.parent.parent}: found a log in use ({segment.name}, bytes up to offset {used}, index range "
            f"unknown) but no IDENTITY, expected both or neither; {WAY_OUT_OF_DAMAGE}"
        )


def _open_log(
    files: FileSystem,
    path: Path,
    identity: Identity,
    segment_bytes: int,
    random_bytes: Callable[[int], bytes],
    *,
    is_new: bool,
    lock: int,
    durability: Durability,
    watch: _Watch,
) -> OpenedStorage:
    started = perf_counter()
    if not durability.is_safe:
        log_to.warning("%s: durability is %s: a power cut may take back acknowledged writes", path, durability)
    folder = path / _WAL_FOLDER
    recovered = _recover(files, folder, identity)
    watch.check(path, identity, recovered.log)
    # After the look at the log: an old copy that was refused must not count as opened at the next look.
    identity = raise_incarnation(files, path, identity)
    broken_copy = perform_repairs(files, recovered.repairs, identity.incarnation)
    tail, log = recovered.tail, recovered.log
    witness = watch.begin(identity)
    wal = Wal(
        files,
        folder,
        segment_bytes=segment_bytes,
        incarnation=identity.incarnation,
        random_bytes=random_bytes,
        header=tail.header,
        place=Place(tail.header.salt, tail.stop, tail.number, tail.chain),
        log=log,
        durability=durability,
        witness=witness,
    )
    try:
        # The last batch once more, to fresh space: reading it back does not prove that the disk will keep it.
        wal.append(recovered.last_batch)
        wal.begin_witness()
    except BaseException:
        wal.close()
        if witness is not None:
            witness.close()
        raise
    report = replace(
        _report(recovered, Verdict.NEW if is_new else recovered.verdict),
        seconds=perf_counter() - started,
        broken_copy=broken_copy,
    )
    return OpenedStorage(
        identity.incarnation, log.hard_state, log.snapshot, log.entries, None, wal, report, files, lock,
        log.base, tuple(log.records), witness,
    )  # fmt: skip


def _recover(files: FileSystem, folder: Path, identity: Identity) -> Recovered:
    if not files.exists(folder):
        raise CorruptWalError(
            f"{folder}: missing (offset 0, every index) although IDENTITY says the folder was in use; "
            f"{WAY_OUT_OF_DAMAGE}"
        )
    # A rename of a process that was killed may still be in memory only; nothing may build on it before this.
    files.fsync_dir(folder)
    with _collection_paused():
        return recover(files, folder, cluster_id=identity.cluster_id, node_id=identity.node_id)


def _report(recovered: Recovered, verdict: Verdict) -> RecoveryReport:
    return RecoveryReport(
        verdict=verdict,
        bytes=recovered.bytes,
        segments=recovered.segments,
        batches=recovered.batches,
        torn_bytes=recovered.torn_bytes,
    )


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Millions of entries are made at once and none is garbage: looking for it takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
