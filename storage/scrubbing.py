"""Reading again what was written long ago, so that rot is found while there are other copies (RELIABILITY 2.5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raftactors.errors import RaftActorsError
from raftactors.storage.descriptors import means_exhausted
from raftactors.storage.files import FileSystem
from raftactors.storage.identity import Identity
from raftactors.storage.replay import verify_sealed_segment
from raftactors.storage.segment import decode_segment_header, parse_segment_name
from raftactors.storage.snapshots import SnapshotFolder


class Damage(NamedTuple):
    """A file that is no longer what was written; `text` names it, and the offset where that is known."""

    text: str


def scrub(wal_folder: Path, snapshots: SnapshotFolder, identity: Identity) -> Iterator[int | Damage]:
    """One pass over all finished segments and all snapshots: the bytes verified since the last step, or damage.

    A step takes a batch or a chunk, so the caller may pause between any two. The live segment is left to recovery,
    which can tell what of it counts. What is removed meanwhile is passed over. Memory: one segment at a time.
    """
    files = snapshots.files
    for name in _finished_segments(files, wal_folder):
        yield from _guarded(files, wal_folder / name, _segment(files, wal_folder / name, identity))
    for summary in snapshots.listing():
        yield from _guarded(files, snapshots.path / summary.name, _snapshot(snapshots, summary.term, summary.index))


def _finished_segments(files: FileSystem, folder: Path) -> list[str]:
    """All but the last two: the end of the last but one may be on its way, as long as nothing is in the last."""
    return sorted(name for name in files.listdir(folder) if parse_segment_name(name))[:-2]


def _guarded(files: FileSystem, path: Path, steps: Iterator[int]) -> Iterator[int | Damage]:
    try:
        yield from steps
    except (RaftActorsError, OSError) as error:
        if isinstance(error, OSError) and means_exhausted(error):
            return  # Nothing is known of the file; the next pass reads it.
        if files.exists(path):  # Otherwise it was removed meanwhile, because a snapshot covers it.
            yield Damage(f"{path}: cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error))


def _segment(files: FileSystem, path: Path, identity: Identity) -> Iterator[int]:
    descriptor = files.open(path)
    try:
        files.drop_cache(descriptor)
        content = files.pread(descriptor, files.size(descriptor), 0)
    finally:
        files.close(descriptor)
    header = decode_segment_header(content, file=str(path), cluster_id=identity.cluster_id, node_id=identity.node_id)
    verified = 0
    for stop in verify_sealed_segment(str(path), content, header):
        yield stop - verified
        verified = stop


def _snapshot(snapshots: SnapshotFolder, term: int, index: int) -> Iterator[int]:
    reader = snapshots.reader(term, index)
    try:
        for chunk in reader.chunks_of_disk():
            yield len(chunk)
    finally:
        reader.close()
