"""A disk in memory that keeps apart what was written and what is durable.

For tests and the deterministic simulator: `crash` loses or tears what was not synced, names not yet made durable
may vanish, and any call can be told to fail. One thread only.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NoReturn

from raftactors.errors import ExitCode
from raftactors.storage.files import Buffer, MappedFile

SECTOR_BYTES = 512
"""What the disk writes as a whole: a torn write loses or keeps each sector for itself."""


class SimulatedExit(BaseException):
    """Stands for the end of the process after a failed sync."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__(code)
        self.code = code


class PowerCut(BaseException):
    """Stands for the moment at which the machine lost its power; `MemoryFiles.crash` then decides what is left."""


@dataclass(slots=True)
class _File:
    current: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)
    locked_by: int | None = None


@dataclass(slots=True)
class _Directory:
    current: dict[str, _File | _Directory] = field(default_factory=dict)
    durable: dict[str, _File | _Directory] = field(default_factory=dict)
    # One (removed name, added name, what was added) for each change since the last sync; "" stands for no name.
    unsynced: list[tuple[str, str, _File | _Directory | None]] = field(default_factory=list)


class MemoryFiles:
    """A `FileSystem` in memory. `calls` records (operation, file name) of every call that changes or syncs."""

    concurrent = False

    def __init__(self) -> None:
        self._root = _Directory()
        self._open: dict[int, tuple[_File, str]] = {}
        self._next_descriptor = 3
        self._faults: dict[str, tuple[int, int]] = {}
        self._calls_left = -1
        self.calls: list[tuple[str, str]] = []

    # --- what the storage calls ---------------------------------------------------------------------------------

    def open(self, path: Path, *, create: bool = False) -> int:
        parent = self._directory(path.parent)
        if create:
            self._note("create", path.name)
            if path.name in parent.current:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            self._change(parent, "", path.name, _File())
        found = parent.current.get(path.name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if isinstance(found, _Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        descriptor = self._next_descriptor
        self._next_descriptor += 1
        self._open[descriptor] = (found, path.name)
        return descriptor

    def close(self, descriptor: int) -> None:
        file, _ = self._open.pop(descriptor)
        if file.locked_by == descriptor:
            file.locked_by = None

    def pwrite(self, descriptor: int, content: Buffer, offset: int) -> None:
        file, name = self._open[descriptor]
        self._note("pwrite", name)
        _place(file.current, offset, bytes(content))
        file.unsynced.append((offset, bytes(content)))

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        file, name = self._open[descriptor]
        self._note("pread", name)
        return bytes(file.current[offset : offset + length])

    def map(self, descriptor: int, length: int) -> MappedFile:
        return _Mapped(self, *self._open[descriptor])

    def fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", descriptor)

    def fsync(self, descriptor: int) -> None:
        self._sync("fsync", descriptor)

    def fsync_dir(self, path: Path) -> None:
        directory = self._directory(path)
        try:
            self._note("fsync_dir", path.name)
        except OSError:
            directory.unsynced.clear()
            self._end_process()
        directory.durable = dict(directory.current)
        directory.unsynced.clear()

    def drop_cache(self, descriptor: int) -> None:
        file, name = self._open[descriptor]
        self._note("drop_cache", name)
        if not file.unsynced:
            file.current[:] = file.durable

    def size(self, descriptor: int) -> int:
        return len(self._open[descriptor][0].current)

    def lock(self, descriptor: int) -> None:
        file, _ = self._open[descriptor]
        if file.locked_by is not None:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        file.locked_by = descriptor

    def exists(self, path: Path) -> bool:
        try:
            return path.parent == path or path.name in self._directory(path.parent).current
        except FileNotFoundError:
            return False

    def listdir(self, path: Path) -> list[str]:
        return sorted(self._directory(path).current)

    def mkdir(self, path: Path) -> None:
        self._note("mkdir", path.name)
        parent = self._directory(path.parent)
        if path.name in parent.current:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self._change(parent, "", path.name, _Directory())

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", target.name)
        parent = self._directory(source.parent)
        if source.parent != target.parent or source.name not in parent.current:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        self._change(parent, source.name, target.name, parent.current[source.name])

    def unlink(self, path: Path) -> None:
        self._note("unlink", path.name)
        parent = self._directory(path.parent)
        if path.name not in parent.current:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._change(parent, path.name, "", None)

    # --- what a test does to the disk ---------------------------------------------------------------------------

    def fail(self, operation: str, *, nth: int, error: int = errno.EIO) -> None:
        """Let the nth call (1 is the next one) of `operation` fail with `error`, once."""
        self._faults[operation] = (nth, error)

    def cut_power(self, *, after_calls: int) -> None:
        """Let this many further calls through and raise PowerCut in place of the one after; -1 takes it back."""
        self._calls_left = after_calls

    def crash(self, rng: Random) -> None:
        """Cut the power: every descriptor and lock is gone, each unsynced sector and name is kept or lost by chance."""
        self._lose_process()
        _crash_directory(self._root, rng)

    def end_process(self) -> None:
        """Kill the process alone: descriptors and locks are gone, everything written stays."""
        for file, _ in self._open.values():
            file.locked_by = None
        self._lose_process()

    def content(self, path: Path) -> bytes:
        """What a reader sees in the file."""
        return bytes(self._file(path).current)

    def overwrite(self, path: Path, content: bytes) -> None:
        """Replace the file's bytes on the disk itself, as rot does."""
        file = self._file(path)
        file.unsynced.clear()
        file.current = bytearray(content)
        file.durable = bytearray(content)

    def unsynced_writes(self, path: Path) -> list[tuple[int, bytes]]:
        """Writes to the file that no sync has covered, in order."""
        return list(self._file(path).unsynced)

    # --- inside -------------------------------------------------------------------------------------------------

    def _lose_process(self) -> None:
        self._open.clear()
        self._faults.clear()
        self._calls_left = -1

    def _directory(self, path: Path) -> _Directory:
        here = self._root
        for name in path.parts[1:] if path.is_absolute() else path.parts:
            found = here.current.get(name)
            if not isinstance(found, _Directory):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            here = found
        return here

    def _file(self, path: Path) -> _File:
        found = self._directory(path.parent).current[path.name]
        if isinstance(found, _Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return found

    def _note(self, operation: str, name: str) -> None:
        if self._calls_left == 0:
            raise PowerCut
        self._calls_left = max(-1, self._calls_left - 1)
        self.calls.append((operation, name))
        if operation in self._faults:
            left, error = self._faults.pop(operation)
            if left == 1:
                raise OSError(error, os.strerror(error), name)
            self._faults[operation] = (left - 1, error)

    def _sync(self, operation: str, descriptor: int) -> None:
        file, name = self._open[descriptor]
        try:
            self._note(operation, name)
        except OSError:
            # The kernel marks the pages clean: they are still seen by readers but will never be written.
            file.unsynced.clear()
            self._end_process()
        for offset, content in file.unsynced:
            _place(file.durable, offset, content)
        file.unsynced.clear()

    def _end_process(self) -> NoReturn:
        raise SimulatedExit(ExitCode.SYNC_FAILED)

    @staticmethod
    def _change(parent: _Directory, removed: str, added: str, what: _File | _Directory | None) -> None:
        _apply(parent.current, removed, added, what)
        parent.unsynced.append((removed, added, what))


class _Mapped:
    """Stores into a file that is mapped; in `calls` they stand as "store"."""

    def __init__(self, disk: MemoryFiles, file: _File, name: str) -> None:
        self._disk = disk
        self._file = file
        self._name = name

    def __setitem__(self, span: slice, content: Buffer) -> None:
        self._disk._note("store", self._name)
        _place(self._file.current, span.start, bytes(content))
        self._file.unsynced.append((span.start, bytes(content)))

    def close(self) -> None:
        pass


def _apply(names: dict[str, _File | _Directory], removed: str, added: str, what: _File | _Directory | None) -> None:
    names.pop(removed, None)
    if what is not None:
        names[added] = what


def _place(content: bytearray, offset: int, piece: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(piece)] = piece


def _crash_directory(directory: _Directory, rng: Random) -> None:
    kept_chance = rng.choice((0.0, 0.5, 1.0))
    for removed, added, what in directory.unsynced:
        if rng.random() < kept_chance:
            _apply(directory.durable, removed, added, what)
    directory.unsynced.clear()
    directory.current = dict(directory.durable)
    for found in directory.current.values():
        if isinstance(found, _Directory):
            _crash_directory(found, rng)
        else:
            _crash_file(found, rng)


def _crash_file(file: _File, rng: Random) -> None:
    file.locked_by = None
    kept_chance = rng.choice((0.0, 0.2, 0.5, 0.8, 1.0))
    garbage_chance = rng.choice((0.0, 0.0, 0.3))
    for offset, content in file.unsynced:
        position = 0
        while position < len(content):
            sector_end = (offset + position) // SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset
            piece = content[position : min(sector_end, len(content))]
            if rng.random() < kept_chance:
                _place(file.durable, offset + position, piece)
            elif rng.random() < garbage_chance:
                _place(file.durable, offset + position, rng.randbytes(len(piece)))
            position += len(piece)
    file.unsynced.clear()
    file.current = bytearray(file.durable)
