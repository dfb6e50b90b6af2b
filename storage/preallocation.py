"""Segments written full of zeros before they are needed.

Appending to such a file changes neither its size nor its metadata, so a sync writes the appended bytes and nothing
else: on ext4 about half the time of a sync that has to record a new length.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from pathlib import Path

from raftactors.storage.descriptors import means_exhausted
from raftactors.storage.files import FileSystem

SPARE_NAME = "next.spare"

_TEMPORARY_NAME = "next.spare.tmp"
_CHUNK_BYTES = 1024 * 1024
_CHUNKS_A_SYNC = 4  # Bounds what a sync of the live segment may have to wait for.
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def means_disk_full(error: OSError) -> bool:
    """Whether the error goes away when somebody makes room, on the disk or among the open files."""
    return error.errno in _NO_SPACE or means_exhausted(error)


class Preallocator:
    """Keeps at most one zero-filled file ready, in the background where the file system allows a second thread.

    `lacks_space` is set when the last attempt found no room, and cleared by the next one that does.
    """

    def __init__(self, files: FileSystem, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._ready_bytes = 0
        self.lacks_space = False

    def adopt(self, length: int) -> None:
        """Take over what an earlier process left: a spare of this length is kept, anything else removed."""
        names = self._files.listdir(self._folder)
        removed = [name for name in names if name == _TEMPORARY_NAME]
        if SPARE_NAME in names:
            descriptor = self._files.open(self._folder / SPARE_NAME)
            size = self._files.size(descriptor)
            self._files.close(descriptor)
            if size == length:
                self._ready_bytes = length
            else:
                removed.append(SPARE_NAME)
        for name in removed:
            self._files.unlink(self._folder / name)
        if removed:
            self._files.fsync_dir(self._folder)

    def start(self, length: int) -> None:
        """Begin to make a spare in the background, unless one is there, on its way, or no thread may be used."""
        if self._ready_bytes or not self._files.concurrent or (self._thread is not None and self._thread.is_alive()):
            return
        self._join()
        self._thread = threading.Thread(target=self._try_fill, args=(length,), name="wal-preallocation", daemon=True)
        self._thread.start()

    def take(self, length: int) -> Path:
        """The path of a durable file of `length` zeros under a temporary name; made now if none is ready.

        Raises OSError, for instance when the disk is full.
        """
        self._join()
        if self._ready_bytes != length:
            self._fill(length)
        self._ready_bytes = 0
        return self._folder / SPARE_NAME

    def close(self) -> None:
        """Stop and wait for the thread; a half-written spare is removed at the next open."""
        self._stop.set()
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _try_fill(self, length: int) -> None:
        try:
            self._fill(length)
        except OSError:
            return  # Whoever needs the segment tries again and reports what goes wrong then.

    def _fill(self, length: int) -> None:
        try:
            self._write_zeros(length)
        except OSError as error:
            # What was written of it would keep from others the little room that is left.
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(self._folder / _TEMPORARY_NAME)
            self.lacks_space = means_disk_full(error)
            raise

    def _write_zeros(self, length: int) -> None:
        files, temporary = self._files, self._folder / _TEMPORARY_NAME
        if files.exists(temporary):
            files.unlink(temporary)
        descriptor = files.open(temporary, create=True)
        try:
            for count, offset in enumerate(range(0, length, _CHUNK_BYTES), start=1):
                if self._stop.is_set():
                    return
                files.pwrite(descriptor, bytes(min(_CHUNK_BYTES, length - offset)), offset)
                if count % _CHUNKS_A_SYNC == 0:
                    files.fdatasync(descriptor)
            files.fsync(descriptor)
        finally:
            files.close(descriptor)
        files.rename(temporary, self._folder / SPARE_NAME)
        files.fsync_dir(self._folder)
        self._ready_bytes = length
        self.lacks_space = False
