"""The data folder: who it belongs to, that one process only has it open, and how often it was opened.

IDENTITY holds two blocks of 4 KiB with the same content. It is the last thing that a first boot makes, so a folder
without it was never in use.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from raftactors.errors import WAY_OUT_OF_DAMAGE, CorruptWalError, DataLockedError, ForeignDataError, StorageError
from raftactors.storage.blocks import BLOCK_BYTES, block_verifies, seal_block
from raftactors.storage.files import FileSystem, ensure_directory, read_whole

IDENTITY_MAGIC = b"RAFTIDEN"
FORMAT_MAJOR = 1
FORMAT_MINOR = 0

_BLOCK = struct.Struct("<8sHHIQQQ")
_COPIES = 2


class Identity(NamedTuple):
    """Whom the folder belongs to; `incarnation` is raised durably at each open and never used twice."""

    cluster_id: int
    node_id: int
    incarnation: int


def lock_folder(files: FileSystem, path: Path) -> int:
    """Make the folder if it is missing and lock it; returns the descriptor that holds the lock until it is closed.

    Raises DataLockedError when another process has the folder open.
    """
    ensure_directory(files, path)
    lock_path = path / "LOCK"
    try:
        descriptor = files.open(lock_path, create=True)
        files.fsync_dir(path)
    except FileExistsError:
        descriptor = files.open(lock_path)
    try:
        files.lock(descriptor)
    except BlockingIOError as error:
        holder = files.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        files.close(descriptor)
        raise DataLockedError(
            f"{path}: found it open in another process (pid {holder}), expected nobody to hold {lock_path}; stop that "
            "process first, or give this node a data folder of its own"
        ) from error
    return descriptor


def read_identity(files: FileSystem, path: Path, *, cluster_id: int, node_id: int) -> Identity | None:
    """The identity of the folder, or None if it has none yet.

    Raises ForeignDataError for another cluster or node, StorageError for an unknown format, CorruptWalError if
    neither copy verifies.
    """
    if files.exists(path / "IDENTITY.tmp"):
        files.unlink(path / "IDENTITY.tmp")
        files.fsync_dir(path)
    found = stored_identities(files, path)
    for identity in found:
        if identity[:2] != (cluster_id, node_id):
            raise ForeignDataError(
                f"{path}: found data of cluster {identity.cluster_id}, node {identity.node_id}, expected cluster "
                f"{cluster_id}, node {node_id}; point this node at its own data folder, or at an empty one"
            )
    return max(found, key=lambda identity: identity.incarnation, default=None)


def stored_identities(files: FileSystem, path: Path) -> list[Identity]:
    """The copies that verify, whoever the folder belongs to; none if there is no IDENTITY. Changes nothing.

    Raises StorageError for an unknown format, CorruptWalError if neither copy verifies.
    """
    if not files.exists(path / "IDENTITY"):
        return []
    descriptor = files.open(path / "IDENTITY")
    try:
        content = read_whole(files, descriptor)
    finally:
        files.close(descriptor)
    copies = [content[start : start + BLOCK_BYTES] for start in (0, BLOCK_BYTES)]
    found = [_decode(path, block) for block in copies if block_verifies(block) and block.startswith(IDENTITY_MAGIC)]
    if not found:
        raise CorruptWalError(
            f"{path}/IDENTITY: neither copy (offset 0 and {BLOCK_BYTES}) verifies; no index is lost, but nothing "
            f"proves whose log this is; {WAY_OUT_OF_DAMAGE}"
        )
    return found


def create_identity(files: FileSystem, path: Path, identity: Identity) -> None:
    """Write the identity of a new folder: the step that puts the folder into use."""
    temporary = path / "IDENTITY.tmp"
    descriptor = files.open(temporary, create=True)
    try:
        files.pwrite(descriptor, _encode(identity) * _COPIES, 0)
        files.fsync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(temporary, path / "IDENTITY")
    files.fsync_dir(path)


def raise_incarnation(files: FileSystem, path: Path, identity: Identity) -> Identity:
    """Raise the incarnation by one, durably in both copies, one after the other so that one is always whole.

    A single copy would not do: if it rotted, the number in the other one would be handed out a second time.
    """
    files.fsync_dir(path.parent)
    files.fsync_dir(path)
    raised = identity._replace(incarnation=identity.incarnation + 1)
    descriptor = files.open(path / "IDENTITY")
    try:
        content = files.pread(descriptor, _COPIES * BLOCK_BYTES, 0)
        order = (0, 1) if not block_verifies(content) else (1, 0)  # A bad copy first: the good one stays until then.
        for copy in order:
            files.pwrite(descriptor, _encode(raised), copy * BLOCK_BYTES)
            files.fdatasync(descriptor)
    finally:
        files.close(descriptor)
    return raised


def _encode(identity: Identity) -> bytes:
    return seal_block(_BLOCK.pack(IDENTITY_MAGIC, FORMAT_MAJOR, FORMAT_MINOR, 0, *identity))


def _decode(path: Path, block: bytes) -> Identity:
    _, major, _, flags, cluster, node, incarnation = _BLOCK.unpack_from(block)
    if major != FORMAT_MAJOR or flags:
        raise StorageError(
            f"{path}/IDENTITY: found format {major} (flags {flags:#x}), expected {FORMAT_MAJOR} (flags 0x0); use the "
            "version of raftactors that wrote it"
        )
    return Identity(cluster, node, incarnation)
