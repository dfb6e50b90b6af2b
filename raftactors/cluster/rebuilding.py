"""A data folder made anew for a node that lost its own, from what the other nodes of the stopped cluster hold.

Why nothing is lost and no vote is given twice. A committed entry is durable on a majority of the members, so at least
one of those read here holds it as long as `needed` of them can be read. Among these the log with the highest last term,
and of those the longest, holds every such entry: it is the log that an election among them would prefer (Raft paper,
sections 5.4.1 and 5.4.3). The node gets this log and the highest term that any of them knows. Its own vote is
forgotten, which matters to nobody: all candidates have ended with their processes, and the next one stands in a
higher term.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from raftactors.cluster.manifest import FolderLock, Manifest, load_manifest
from raftactors.cluster.node_folder import data_folder, least_incarnation, node_folder, witness_path
from raftactors.config import Limits
from raftactors.core.types import Entry, HardState, Snapshot
from raftactors.errors import (
    ConfigError,
    CorruptSnapshotError,
    DataLostError,
    ForeignDataError,
    RaftActorsError,
    StorageError,
)
from raftactors.storage import Identity, OpenedStorage, RealFiles, WalBatch, open_data_dir
from raftactors.storage.identity import lock_folder, stored_identities
from raftactors.storage.inspection import ReadOnlyFiles
from raftactors.storage.opening import SNAPSHOT_FOLDER
from raftactors.storage.reading import StoredHistory, read_history
from raftactors.storage.record import LogEnd
from raftactors.storage.snapshots import SnapshotFolder
from raftactors.storage.witness import forgotten, read_witness

_UNFINISHED_NAME = "data.new"
_BATCH_BYTES = 1024 * 1024
_ENTRY_BYTES = 64  # About what a record takes beside its payload.


class RebuiltNode(NamedTuple):
    """The node has the log of `source_node` up to `last_index`; `kept` is where its old folder is, if it had one."""

    node_id: int
    source_node: int
    term: int
    last_index: int
    kept: Path | None


def rebuild_node(folder: Path, node_id: int) -> RebuiltNode:
    """Make the data folder of one node in the stopped cluster's `folder` anew; the old one is kept beside it.

    Raises ConfigError for a node or a folder that is none, DataLockedError while the cluster or a node runs, and
    StorageError if too few of the other nodes can be read to know what was committed, or the disk refuses; nothing has
    changed then, but for what is left in `data.new` of the node.
    """
    manifest = load_manifest(folder)
    if manifest is None:
        raise ConfigError(f"no cluster in {folder}; name its --data-dir")
    members = [member.node_id for member in manifest.members]
    if node_id not in members:
        raise ConfigError(f"node {node_id} is not one of the cluster in {folder}: {', '.join(map(str, members))}")
    try:
        return _rebuild(folder, manifest, members, node_id)
    except OSError as error:
        raise StorageError(
            f"{error.filename or folder}: node {node_id} was not rebuilt: {error.strerror}; free or repair the disk "
            "and do it again"
        ) from error


def _rebuild(folder: Path, manifest: Manifest, members: list[int], node_id: int) -> RebuiltNode:
    with _stopped(folder, members):
        source_node, source, term = _read_others(folder, manifest, node_id)
        home = node_folder(folder, node_id)
        fresh = home / _UNFINISHED_NAME
        if fresh.exists():
            shutil.rmtree(fresh)  # Of a rebuild that did not come to its end.
        witness = witness_path(folder, node_id)
        fresh_witness = witness.with_name(f"{witness.name}.new")
        fresh_witness.unlink(missing_ok=True)
        identity = Identity(manifest.cluster_id, node_id, max(_incarnations(folder, members)))
        _write(fresh, identity, source, HardState(term), fresh_witness)
        kept = _put_in_place(home, fresh)
        # Last: until then the node is refused by the witness of what it was, and rebuilt again.
        _exchange_witness(witness, fresh_witness)
    return RebuiltNode(node_id, source_node, term, source.last_index, kept)


@contextmanager
def _stopped(folder: Path, members: list[int]) -> Iterator[None]:
    """Keep the cluster and each of its nodes from starting meanwhile."""
    files = RealFiles()
    with ExitStack() as held:
        lock = FolderLock(folder)
        held.callback(lock.release)
        for number in members:
            if data_folder(folder, number).is_dir():
                held.callback(files.close, lock_folder(files, data_folder(folder, number)))
        yield


class _Others(NamedTuple):
    """The log to take, whose it is, and the highest term that any of the others knows."""

    source_node: int
    source: StoredHistory
    term: int


def _read_others(folder: Path, manifest: Manifest, node_id: int) -> _Others:
    """Read the other members one by one; two logs are in memory at a time.

    Raises StorageError for fewer than tell what was committed.
    """
    members = [member.node_id for member in manifest.members]
    needed = len(members) - len(members) // 2
    best: _Others | None = None
    readable, faults = 0, list[str]()
    for number in members:
        if number == node_id:
            continue
        try:
            found = _read_member(folder, manifest.cluster_id, number)
        except RaftActorsError as error:
            faults.append(f"node {number}: {error}")
            continue
        readable += 1
        term = found.hard_state.term
        if best is None:
            best = _Others(number, found, term)
        elif _end_of(found) > _end_of(best.source):
            best = _Others(number, found, max(term, best.term))
        else:
            best = best._replace(term=max(term, best.term))
    if best is None or readable < needed:
        raise StorageError(
            f"{folder}: {readable} other nodes can be read, of {len(members)} members it takes {needed} to know what "
            f"was committed; make a new cluster from a snapshot with `raftactors snapshot restore`. {'; '.join(faults)}"
        )
    return best


def _read_member(folder: Path, cluster_id: int, node_id: int) -> StoredHistory:
    path = data_folder(folder, node_id)
    history = read_history(path)
    if history.identity[:2] != (cluster_id, node_id):
        raise ForeignDataError(
            f"{path} is that of cluster {history.identity.cluster_id}, node {history.identity.node_id}; put the folder "
            "of this node in its place"
        )
    if history.identity.incarnation < (least := least_incarnation(node_folder(folder, node_id))):
        raise DataLostError(f"{path}: a copy of incarnation {history.identity.incarnation}, the node has had {least}")
    shown = read_witness(ReadOnlyFiles(), witness_path(folder, node_id), cluster_id=cluster_id, node_id=node_id)
    last = LogEnd(*_end_of(history))
    if shown and (lacks := forgotten(shown, history.identity.incarnation, history.hard_state, last)):
        raise DataLostError(f"{path}: an old copy: it {lacks}")
    return history


def _end_of(history: StoredHistory) -> tuple[int, int]:
    """What elections compare: the term of the last entry, then its index."""
    last_term = history.entries[-1].term if history.entries else history.base.term
    return last_term, history.last_index


def _incarnations(folder: Path, members: list[int]) -> Iterator[int]:
    """Every one that a folder tells of, so that nobody who knew the node takes it for an older process."""
    for number in members:
        yield least_incarnation(node_folder(folder, number))
        try:
            yield from (
                identity.incarnation for identity in stored_identities(RealFiles(), data_folder(folder, number))
            )
        except (RaftActorsError, OSError):
            continue


def _write(path: Path, identity: Identity, source: StoredHistory, hard_state: HardState, witness: Path) -> None:
    """A data folder as that of a node which has received the source's snapshot, and its entries after that.

    Its witness is made with it.
    """
    files = RealFiles()
    opened = open_data_dir(
        path,
        cluster_id=identity.cluster_id,
        node_id=identity.node_id,
        segment_bytes=Limits().segment_bytes,
        files=files,
        incarnation=identity.incarnation,
        witness_path=witness,
    )
    try:
        snapshot = _copy_snapshot(source, SnapshotFolder(files, path / SNAPSHOT_FOLDER, cluster_id=identity.cluster_id))
        begin = hard_state._replace(commit=snapshot.index)
        opened.wal.append([WalBatch(begin, (), snapshot if snapshot.index else None)])
        _copy_entries(opened, [entry for entry in source.entries if entry.index > snapshot.index])
        end = hard_state._replace(commit=max(snapshot.index, source.commit_index))
        opened.wal.append([WalBatch(end, ())])
    finally:
        opened.close()


def _copy_snapshot(source: StoredHistory, target: SnapshotFolder) -> Snapshot:
    """The newest snapshot that is whole; an empty one if the log reaches back to its first entry instead."""
    faults: list[str] = []
    for end in reversed(source.snapshots):
        try:
            reader = source.snapshot_reader(end)
            try:
                return target.save(reader.header, map(bytes, reader.chunks()))
            finally:
                reader.close()
        except CorruptSnapshotError as error:
            faults.append(str(error))
    if source.base.index:
        raise StorageError(
            f"{source.folder} is to be copied, but has no snapshot to begin from "
            f"({'; '.join(faults) or 'there is none'}); make a new cluster from a snapshot of another node with "
            "`raftactors snapshot restore`"
        )
    return Snapshot()


def _copy_entries(opened: OpenedStorage, entries: list[Entry]) -> None:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.data or b"") + _ENTRY_BYTES
        if size >= _BATCH_BYTES:
            opened.wal.append([WalBatch(None, batch)])
            batch, size = [], 0
    opened.wal.append([WalBatch(None, batch)])


def _put_in_place(home: Path, fresh: Path) -> Path | None:
    """Exchange the folders; should this end in between, the node is refused for its empty one, and rebuilt again."""
    data, kept = home / "data", None
    if data.exists():
        kept = next(path for number in count(1) if not (path := home / f"data.broken-{number}").exists())
        data.rename(kept)
    fresh.rename(data)
    RealFiles().fsync_dir(home)
    return kept


def _exchange_witness(witness: Path, fresh: Path) -> None:
    if fresh.exists():
        fresh.rename(witness)
    else:  # It could not be made; the old one tells of more than what was rebuilt.
        witness.unlink(missing_ok=True)
    if witness.parent.exists():
        RealFiles().fsync_dir(witness.parent)
