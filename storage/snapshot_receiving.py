"""A snapshot that arrives chunk by chunk: what is held survives cuts and restarts, nothing counts before all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from raftactors.core.types import Snapshot
from raftactors.errors import CorruptSnapshotError
from raftactors.storage.files import FileSystem
from raftactors.storage.snapshot_file import (
    CHUNK_HEADER_BYTES,
    HEADER_BYTES,
    SnapshotHeader,
    SnapshotTrailer,
    chunk_fault,
    chunk_length,
    chunk_offset,
    encode_header,
    encode_trailer,
    header_seed,
)
from raftactors.storage.snapshots import PARTIAL_SUFFIX, SnapshotFolder, publish

_SYNC_BYTES = 4 * 1024 * 1024


class SnapshotReceiver:
    """Assembles one offered snapshot in a file of its own.

    It begins with the chunks that an earlier attempt left, as far as they verify: `next` is the first missing one,
    `digest` the SHA-256 of everything before it. The sender compares that with its own file, and says `restart` if they
    differ. Raises OSError when the disk refuses.
    """

    def __init__(self, folder: SnapshotFolder, header: SnapshotHeader, trailer: SnapshotTrailer) -> None:
        self.header = header
        self.trailer = trailer
        self.next = 0
        self._folder = folder
        self._files: FileSystem = folder.files
        self._block = encode_header(header)
        self._seed = header_seed(self._block)
        self._path: Path = folder.path / f"{header.name}{PARTIAL_SUFFIX}"
        self._unsynced = 0
        self._descriptor = -1
        self._digest = hashlib.sha256()
        self._drop_others()
        try:
            if not self._take_up():
                self.restart()
        except Exception:
            self.close()
            raise

    @property
    def digest(self) -> bytes:
        """SHA-256 of the header and the chunks before `next`."""
        return self._digest.digest()

    @property
    def received_bytes(self) -> int:
        """How much of the file is held."""
        return self._offset(self.next)

    @property
    def complete(self) -> bool:
        """Whether every chunk is held."""
        return self.next == self.trailer.chunks

    def restart(self) -> None:
        """Forget what is held: it is not the beginning of what the sender has."""
        self.discard()
        self._descriptor = self._files.open(self._path, create=True)
        self.next = 0
        self._digest = hashlib.sha256()
        self._put(self._block, 0)

    def put(self, number: int, record: bytes | memoryview) -> None:
        """Take chunk `number`, which must be `next`. Raises CorruptSnapshotError for anything else."""
        fault = chunk_fault(record, number, self._seed, self.header.chunk_bytes)
        if not fault and (
            number != self.next
            or number >= self.trailer.chunks
            or len(record) != chunk_length(number, self.trailer, self.header.chunk_bytes)
        ):
            fault = f"is not the one that is missing, {self.next}"
        if fault:
            raise CorruptSnapshotError(f"{self._path}: chunk {number} {fault}")
        self._put(record, chunk_offset(number, self.header.chunk_bytes))
        self.next += 1

    def finish(self) -> Snapshot:
        """Check the whole, make it durable and give it its name.

        Raises CorruptSnapshotError if it is not what was offered; everything held is forgotten then.
        """
        if not self.complete or self.digest != self.trailer.sha256:
            self.discard()
            raise CorruptSnapshotError(f"{self._path}: the chunks do not add up to what was offered")
        files = self._files
        files.pwrite(self._descriptor, encode_trailer(self.trailer), self._offset(self.next))
        files.fsync(self._descriptor)
        self.close()
        try:
            publish(files, self._path, self._folder.path / self.header.name, self.header)
        except CorruptSnapshotError:
            self.discard()
            raise
        return self.header.snapshot

    def close(self) -> None:
        """Let go of the file, which stays for a later attempt; a second call does nothing."""
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Let go of the file and remove it."""
        self.close()
        if self._files.exists(self._path):
            self._files.unlink(self._path)

    def _offset(self, number: int) -> int:
        """Where chunk `number` begins, also behind the last one, which may be shorter."""
        if number < self.trailer.chunks or not number:
            return chunk_offset(number, self.header.chunk_bytes)
        return HEADER_BYTES + self.trailer.chunks * CHUNK_HEADER_BYTES + self.trailer.content_bytes

    def _drop_others(self) -> None:
        """One partial snapshot is kept: a newer offer makes older ones useless."""
        for name in self._files.listdir(self._folder.path):
            if name.endswith(PARTIAL_SUFFIX) and name != self._path.name:
                self._files.unlink(self._folder.path / name)

    def _take_up(self) -> bool:
        """Go on behind the last chunk that an earlier attempt left whole; False if there is nothing to go on with."""
        files = self._files
        if not files.exists(self._path):
            return False
        self._descriptor = files.open(self._path)
        fits = files.size(self._descriptor) <= self.trailer.file_bytes
        if not fits or files.pread(self._descriptor, HEADER_BYTES, 0) != self._block:
            return False
        self._digest.update(self._block)
        while self.next < self.trailer.chunks:
            length = chunk_length(self.next, self.trailer, self.header.chunk_bytes)
            record = files.pread(self._descriptor, length, self._offset(self.next))
            if chunk_fault(record, self.next, self._seed, self.header.chunk_bytes):
                break
            self._digest.update(record)
            self.next += 1
        return True

    def _put(self, content: bytes | memoryview, offset: int) -> None:
        self._files.pwrite(self._descriptor, content, offset)
        self._digest.update(content)
        self._unsynced += len(content)
        if self._unsynced >= _SYNC_BYTES:
            self._files.fdatasync(self._descriptor)
            self._unsynced = 0
