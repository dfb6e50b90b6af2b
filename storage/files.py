"""The file-system seam: everything the storage does to a disk, and its implementation on raw descriptors.

The write-ahead log and the identity file reach the disk only through `FileSystem`, so that a test or the simulator
can put a disk that loses, tears and refuses in its place (`raftactors.storage.memory`).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

from raftactors.errors import ExitCode, InvariantViolation
from raftactors.storage.descriptors import open_descriptor

Buffer = bytes | bytearray | memoryview

FILE_MODE = 0o600
FOLDER_MODE = 0o700
"""What everything in a data folder is made with, whatever the umask adds or takes away: it is its owner's alone."""

_PID_BYTES = 20
_OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC

_locked: set[int] = set()


def _close_inherited_locks() -> None:
    """A forked copy of this process would hold the locks for as long as it lives, also after the original has died."""
    for descriptor in list(_locked):
        os.close(descriptor)
    _locked.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)


class MappedFile(Protocol):
    """The pages of a file as memory: storing takes no system call, and outlives the process at once."""

    def __setitem__(self, span: slice, content: Buffer, /) -> None:
        """Store `content`, which is as long as the span; not durable before the next sync of the file."""
        ...

    def close(self) -> None:
        """Let go of the pages."""
        ...


class FileSystem(Protocol):
    """What the storage asks of a disk. Errors are `OSError`; a failed sync never returns (see `fdatasync`)."""

    @property
    def concurrent(self) -> bool:
        """Whether a second thread may call while another one does; False keeps everything in the caller's thread."""
        ...

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open for reading and writing. With `create` the file must not exist and is made with mode 0600."""
        ...

    def close(self, descriptor: int) -> None:
        """Give the descriptor back, and with it a lock it holds."""
        ...

    def pwrite(self, descriptor: int, content: Buffer, offset: int) -> None:
        """Write all of `content` at `offset`; not durable before the next sync."""
        ...

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        """Read `length` bytes at `offset`; fewer come back only at the end of the file."""
        ...

    def map(self, descriptor: int, length: int) -> MappedFile:
        """The first `length` bytes of a file, whose blocks must all be there, as memory to store into."""
        ...

    def fdatasync(self, descriptor: int) -> None:
        """Make the content and size durable. A failure ends the process: what it left behind cannot be known."""
        ...

    def fsync(self, descriptor: int) -> None:
        """Make the content and all metadata durable. A failure ends the process."""
        ...

    def fsync_dir(self, path: Path) -> None:
        """Make the names in a directory durable. A failure ends the process."""
        ...

    def drop_cache(self, descriptor: int) -> None:
        """Let the next read come from the disk rather than from memory."""
        ...

    def size(self, descriptor: int) -> int:
        """Length of the file in bytes."""
        ...

    def lock(self, descriptor: int) -> None:
        """Lock the file until the descriptor is closed. Raises BlockingIOError if somebody else holds it."""
        ...

    def exists(self, path: Path) -> bool:
        """Whether the path names a file or directory."""
        ...

    def listdir(self, path: Path) -> list[str]:
        """The names in a directory, sorted."""
        ...

    def mkdir(self, path: Path) -> None:
        """Make a directory with mode 0700. Raises FileExistsError."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, replacing what had it."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        ...


class RealFiles:
    """The disk of this machine, by raw descriptors; nothing is buffered in the process.

    `exit_process` ends the process at once, without cleanup that writes, after a failed sync: the kernel marks the
    pages clean on failure, so a second sync would succeed without having written anything (USENIX ATC 2020,
    "Can applications recover from fsync failures?").
    """

    concurrent = True

    def __init__(self, exit_process: Callable[[int], object] = os._exit) -> None:
        self._exit_process = exit_process

    def open(self, path: Path, *, create: bool = False) -> int:
        if create:
            return open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        return open_descriptor(path, _OPEN_FLAGS)

    def close(self, descriptor: int) -> None:
        _locked.discard(descriptor)
        os.close(descriptor)

    def pwrite(self, descriptor: int, content: Buffer, offset: int) -> None:
        written = os.pwrite(descriptor, content, offset)
        length = len(content)
        if written == length:
            return
        view = memoryview(content)
        while written < length:
            written += os.pwrite(descriptor, view[written:], offset + written)

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        content = os.pread(descriptor, length, offset)
        if len(content) == length or not content:
            return content
        parts, read = [content], len(content)
        while read < length:
            content = os.pread(descriptor, length - read, offset + read)
            if not content:
                break
            parts.append(content)
            read += len(content)
        return b"".join(parts)

    def map(self, descriptor: int, length: int) -> MappedFile:
        return mmap.mmap(descriptor, length)

    def fdatasync(self, descriptor: int) -> None:
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            self._sync_failed(f"fdatasync of descriptor {descriptor}", error)

    def fsync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            self._sync_failed(f"fsync of descriptor {descriptor}", error)

    def fsync_dir(self, path: Path) -> None:
        descriptor = open_descriptor(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            self._sync_failed(f"fsync of directory {path}", error)
        finally:
            os.close(descriptor)

    def drop_cache(self, descriptor: int) -> None:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def lock(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _locked.add(descriptor)
        # The number helps whoever meets the lock; the lock itself is what counts, so this need not be durable.
        self.pwrite(descriptor, str(os.getpid()).encode().ljust(_PID_BYTES), 0)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def listdir(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))

    def mkdir(self, path: Path) -> None:
        make_private_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        _uninterrupted(os.rename, source, target)

    def unlink(self, path: Path) -> None:
        _uninterrupted(os.unlink, path)

    def _sync_failed(self, what: str, error: OSError) -> NoReturn:
        line = f"raftactors: {what} failed: {error.strerror}; ending the process, nothing is acknowledged\n"
        os.write(2, line.encode(errors="replace"))
        self._exit_process(ExitCode.SYNC_FAILED)
        raise InvariantViolation("the process went on after a failed sync")


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file, and see to it that nobody but its owner may read or write it; returns the descriptor."""
    descriptor = open_descriptor(path, flags | os.O_CLOEXEC, FILE_MODE)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != FILE_MODE:
        # The umask took too much away, or the file was made by somebody else. Not every file system has modes.
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, FILE_MODE)
    return descriptor


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner may look into. Raises FileExistsError."""
    _uninterrupted(os.mkdir, path, FOLDER_MODE)
    if stat.S_IMODE(os.stat(path).st_mode) != FOLDER_MODE:
        with contextlib.suppress(PermissionError):
            os.chmod(path, FOLDER_MODE)


def _uninterrupted(call: Callable[..., None], *arguments: object) -> None:
    """Make the call again for as long as signals interrupt it; Python does so for descriptors, not for names."""
    while True:
        try:
            return call(*arguments)
        except InterruptedError:
            continue


def ensure_directory(files: FileSystem, path: Path) -> None:
    """Make a directory and its missing parents, each name durable."""
    if files.exists(path):
        return
    ensure_directory(files, path.parent)
    files.mkdir(path)
    files.fsync_dir(path.parent)


def read_whole(files: FileSystem, descriptor: int) -> bytes:
    """Everything in the file, from the disk.

    Synced and dropped from memory first: after a crash of the process alone the kernel may hold pages that it
    believes clean but that never reached the disk, and they must not pass for durable.
    """
    files.fsync(descriptor)
    files.drop_cache(descriptor)
    return files.pread(descriptor, files.size(descriptor), 0)
