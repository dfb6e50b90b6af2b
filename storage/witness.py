"""The witness: what a node has shown to others, kept apart from its data, so that an old copy of the data is noticed.

While it runs, a node stores here what its disk has confirmed and what it is about to show: its term and vote, where its
log ends, its incarnation. At its next start the data must hold at least that much. A copy that was taken earlier and
put in the place of the data holds less, unless the node has promised nothing since.

A store goes into a page that the kernel shares with the process: it takes no system call and outlives the process. The
file has two slots, stored in turn, each with a checksum: a kill in the middle of a store leaves the other one. A power
cut may leave slots that are older than the log, which is harmless as long as they tell of less. So before the log is
made to end earlier, by a conflict or a snapshot, both slots are lowered and synced, and the log is written after that.

Why the ends may be compared as elections compare them, by term first. Let the node acknowledge an entry to the leader
of term t, so that the entry may be committed by it. Until then its log holds no entry of a later term, and of that
leader's entries only those that come before. Every copy from that time ends lower, by the term or by the index. From
then on, if the entry was committed, the log always holds it and ends there or higher, and so does the witness.
"""

from __future__ import annotations

import contextlib
import logging
import struct
from pathlib import Path
from typing import NamedTuple

from raftactors.core.types import HardState
from raftactors.errors import ForeignDataError, StorageError
from raftactors.storage.blocks import BLOCK_BYTES
from raftactors.storage.files import FileSystem, MappedFile, ensure_directory
from raftactors.storage.identity import Identity
from raftactors.storage.record import LogEnd, crc32c

log = logging.getLogger(__name__)

_MAGIC = b"RAFTWITN"
_FORMAT = 1
_SLOT = struct.Struct("<8sI4xQQQQQQQQ")
_CRC = struct.Struct("<I")
_SLOT_BYTES = _SLOT.size + _CRC.size
_SLOTS = tuple(slice(offset, offset + _SLOT_BYTES) for offset in (0, BLOCK_BYTES // 2))
_FILE_BYTES = BLOCK_BYTES


class Shown(NamedTuple):
    """What a node has shown, as one slot holds it. `generation` grows with each store; the highest one counts."""

    cluster_id: int
    node_id: int
    generation: int
    incarnation: int
    term: int
    vote: int
    end: LogEnd


def forgotten(shown: Shown, incarnation: int, hard_state: HardState, end: LogEnd) -> str:
    """What data of this incarnation, hard state and end of the log lacks of `shown`, in words; "" if it lacks nothing.

    Data that was opened since, and so has a higher incarnation, was compared then.
    """
    if incarnation != shown.incarnation:
        lacks = incarnation < shown.incarnation
        return f"has incarnation {incarnation}, but the node has served with {shown.incarnation}" if lacks else ""
    if hard_state.term < shown.term:
        return f"is of term {hard_state.term}, but the node has shown term {shown.term}"
    if hard_state.term == shown.term and shown.vote not in {0, hard_state.vote}:
        return f"has vote {hard_state.vote} in term {shown.term}, but the node has voted for {shown.vote}"
    if end < shown.end:
        return (
            f"ends at index {end.index} of term {end.term}, but the node has acknowledged up to index "
            f"{shown.end.index} of term {shown.end.term}"
        )
    return ""


class Witness:
    """Stores what is shown. One thread at a time; `end` is the end of the log that was stored last."""

    def __init__(
        self, files: FileSystem, descriptor: int, pages: MappedFile, identity: Identity, generation: int
    ) -> None:
        self._files = files
        self._descriptor = descriptor
        self._pages = pages
        self._identity = identity
        self._generation = generation
        self._hard_state = HardState()
        self._slot = bytearray(_SLOT_BYTES)
        self._checked = memoryview(self._slot)[: _SLOT.size]
        self.end = LogEnd()

    def show(self, hard_state: HardState, end: LogEnd) -> None:
        """Store what is durable by now and may be told to others after this."""
        self._generation = generation = self._generation + 1
        self._hard_state, self.end = hard_state, end
        cluster_id, node_id, incarnation = self._identity
        _SLOT.pack_into(
            self._slot, 0, _MAGIC, _FORMAT, cluster_id, node_id, generation, incarnation,
            hard_state.term, hard_state.vote, end.term, end.index,
        )  # fmt: skip
        _CRC.pack_into(self._slot, _SLOT.size, crc32c(self._checked))
        self._pages[_SLOTS[generation & 1]] = self._slot

    def lower(self, end: LogEnd) -> None:
        """Tell of no more than `end`, durably: the log is about to be made to end there. Most logs only grow."""
        if self.end > end:
            self.begin(self._hard_state, end)

    def begin(self, hard_state: HardState, end: LogEnd) -> None:
        """Store it in both slots and sync them. A failed sync ends the process."""
        self.show(hard_state, end)
        self.show(hard_state, end)
        self._files.fdatasync(self._descriptor)

    def close(self) -> None:
        """Give the file back; what was stored stays."""
        self._pages.close()
        self._files.close(self._descriptor)


def read_witness(files: FileSystem, path: Path, *, cluster_id: int, node_id: int) -> Shown | None:
    """What the node has shown by the witness at `path`; None if there is none, or if neither slot of it verifies.

    Raises ForeignDataError for that of another node, StorageError for an unknown format.
    """
    if not files.exists(path):
        return None
    content = _read(files, path)
    spans = _SLOTS if len(content) == _FILE_BYTES else ()
    slots = [slot for span in spans if (slot := _decode(path, content[span])) is not None]
    if not slots and any(content):
        log.warning("%s: neither slot of the witness verifies: it cannot tell whether the data is an old copy", path)
    for slot in slots:
        if slot[:2] != (cluster_id, node_id):
            raise ForeignDataError(
                f"{path}: found the witness of cluster {slot.cluster_id}, node {slot.node_id}, expected cluster "
                f"{cluster_id}, node {node_id}; give each node a witness_path of its own, or remove the file if that "
                "node is no more"
            )
    return max(slots, key=lambda slot: slot.generation, default=None)


def open_witness(files: FileSystem, path: Path, identity: Identity, found: Shown | None) -> Witness | None:
    """The witness at `path`, made if there is none, to store what a node of this identity shows after `found`.

    A node does without one, with a warning, where the disk is full or the file system cannot share pages.
    """
    content = _read(files, path) if files.exists(path) else b""
    try:
        _allocate(files, path, content)
        descriptor = files.open(path)
        try:
            pages = files.map(descriptor, _FILE_BYTES)
        except OSError:
            files.close(descriptor)
            raise
    except OSError as error:
        log.warning("%s: no witness: %s; an old copy of this node's data would go unnoticed", path, error)
        return None
    return Witness(files, descriptor, pages, identity, found.generation if found else 0)


def _read(files: FileSystem, path: Path) -> bytes:
    """What is there, and one byte more if it is longer than it should be."""
    descriptor = files.open(path)
    try:
        return files.pread(descriptor, _FILE_BYTES + 1, 0)
    finally:
        files.close(descriptor)


def _allocate(files: FileSystem, path: Path, content: bytes) -> None:
    """Make sure that the file is there with all its blocks: a store for which the disk has no room kills the process.

    The `content` that is there is written once more in its place; one of another length says nothing and is replaced.
    """
    if len(content) == _FILE_BYTES:
        descriptor = files.open(path)
        try:
            files.pwrite(descriptor, content, 0)
            files.fsync(descriptor)
        finally:
            files.close(descriptor)
        return
    with contextlib.suppress(FileExistsError):  # Another node of the cluster may have made it just now.
        ensure_directory(files, path.parent)
    temporary = path.with_name(path.name + ".tmp")
    if files.exists(temporary):
        files.unlink(temporary)
    descriptor = files.open(temporary, create=True)
    try:
        files.pwrite(descriptor, bytes(_FILE_BYTES), 0)
        files.fsync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(temporary, path)
    files.fsync_dir(path.parent)


def _decode(path: Path, content: bytes) -> Shown | None:
    if len(content) < _SLOT_BYTES or _CRC.unpack_from(content, _SLOT.size)[0] != crc32c(content[: _SLOT.size]):
        return None
    magic, version, cluster_id, node_id, generation, incarnation, term, vote, *end = _SLOT.unpack_from(content)
    if magic != _MAGIC:
        return None
    if version != _FORMAT:
        raise StorageError(
            f"{path}: found format {version}, expected {_FORMAT}; use the version of raftactors that wrote it"
        )
    return Shown(cluster_id, node_id, generation, incarnation, term, vote, LogEnd(*end))
