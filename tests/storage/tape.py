"""A disk in memory that is quick to make, and the tape of what a workload did to a disk, cut at every call.

A cut holds what was durable and what was not when the power failed, and what recovery may then find.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from raftactors.core.types import Entry, HardState, Snapshot
from raftactors.storage import Durability, MemoryFiles, OpenedStorage, WalBatch, open_data_dir
from raftactors.storage.files import Buffer, MappedFile
from raftactors.storage.memory import _Directory, _File

FOLDER = Path("/node/1")
WITNESS = Path("/witness/1")
SEGMENT_BYTES = 16 * 1024

Names = dict[str, "Content | None"]


class Content:
    """The bytes of one file; several names may lead to it."""

    __slots__ = ("data", "locked_by")

    def __init__(self, data: bytes | bytearray = b"") -> None:
        self.data = bytearray(data)
        self.locked_by = -1


class MappedContent:
    """The bytes of a file to store into."""

    def __init__(self, content: Content) -> None:
        self._data = content.data

    def __setitem__(self, span: slice, content: Buffer) -> None:
        self._data[span] = content

    def close(self) -> None:
        pass


class PlainFiles:
    """A `FileSystem` without a past: everything written is there. Keys are whole paths, None stands for a directory."""

    concurrent = False

    def __init__(self, names: Names) -> None:
        self.names = names
        self._open: dict[int, Content] = {}

    def open(self, path: Path, *, create: bool = False) -> int:
        key = str(path)
        if create:
            if key in self.names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), key)
            self.names[key] = Content()
        found = self.names.get(key)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        descriptor = len(self._open) + 3
        self._open[descriptor] = found
        return descriptor

    def close(self, descriptor: int) -> None:
        if self._open[descriptor].locked_by == descriptor:
            self._open[descriptor].locked_by = -1

    def pwrite(self, descriptor: int, content: Buffer, offset: int) -> None:
        data = self._open[descriptor].data
        if len(data) < offset:
            data.extend(bytes(offset - len(data)))
        data[offset : offset + len(content)] = content

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return bytes(memoryview(self._open[descriptor].data)[offset : offset + length])

    def map(self, descriptor: int, length: int) -> MappedFile:
        return MappedContent(self._open[descriptor])

    def fdatasync(self, descriptor: int) -> None:
        pass

    def fsync(self, descriptor: int) -> None:
        pass

    def fsync_dir(self, path: Path) -> None:
        pass

    def drop_cache(self, descriptor: int) -> None:
        pass

    def size(self, descriptor: int) -> int:
        return len(self._open[descriptor].data)

    def lock(self, descriptor: int) -> None:
        if self._open[descriptor].locked_by >= 0:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        self._open[descriptor].locked_by = descriptor

    def exists(self, path: Path) -> bool:
        return str(path) in self.names or path.parent == path

    def listdir(self, path: Path) -> list[str]:
        start = f"{path}/"
        length = len(start)
        return sorted(name[length:] for name in self.names if name.startswith(start) and "/" not in name[length:])

    def mkdir(self, path: Path) -> None:
        self.names[str(path)] = None

    def rename(self, source: Path, target: Path) -> None:
        self.names[str(target)] = self.names.pop(str(source))

    def unlink(self, path: Path) -> None:
        del self.names[str(path)]

    def end_process(self) -> None:
        """Forget descriptors and locks."""
        for content in self._open.values():
            content.locked_by = -1
        self._open.clear()


class FrozenFile(NamedTuple):
    """A file at a cut: what is durable, and the writes that are not, in their order."""

    durable: bytes
    writes: tuple[tuple[int, bytes], ...]


class FrozenDirectory(NamedTuple):
    """A directory at a cut: durable names and the changes that are not durable, in their order."""

    names: tuple[tuple[str, Node], ...]
    changes: tuple[tuple[str, str, Node | None], ...]


Node = FrozenFile | FrozenDirectory


@dataclass(frozen=True, slots=True)
class Cut:
    """One moment of a workload. Recovery may find any of `allowed`, and must give a higher incarnation."""

    workload: str
    call: int
    root: FrozenDirectory
    allowed: tuple[Hashable, ...]
    incarnation: int
    has_witness: bool


Observe = Callable[[OpenedStorage], Hashable]


def observe(opened: OpenedStorage) -> Hashable:
    """What recovery found, as something to compare."""
    return tuple(opened.entries), opened.hard_state, opened.snapshot


class Log:
    """What the log holds, as a plain list; `outcome` is what `observe` gives for it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.hard_state = HardState()
        self.snapshot = Snapshot()

    def apply(self, batch: WalBatch) -> None:
        """Take over one batch."""
        if batch.snapshot is not None:
            self.snapshot, self.entries = batch.snapshot, []
        if batch.entries:
            del self.entries[batch.entries[0].index - self.snapshot.index - 1 :]
            self.entries += batch.entries
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state

    def outcome(self) -> Hashable:
        """The log as something to compare."""
        return tuple(self.entries), self.hard_state, self.snapshot


class Recorder(MemoryFiles):
    """A disk that takes a cut before every call which changes or syncs something.

    A workload tells it with `begin` what would be found if the step that follows were durable, and with `acknowledge`
    that it must be found from now on. With `has_witness` its folder is opened with one.
    """

    has_witness = False

    def __init__(self, workload: str, seed: int = 7) -> None:
        super().__init__()
        self.rng = Random(seed)
        self.cuts: list[Cut] = []
        self._workload = workload
        self._allowed: list[Hashable] = [Log().outcome()]
        self._incarnation = 0
        # By file: what its frozen form depends on, the form, and the file itself so that its id stays taken.
        self._frozen: dict[int, tuple[tuple[int, int], FrozenFile, _File]] = {}
        self._syncs: Counter[int] = Counter()

    def open_storage(self, durability: str = "fsync") -> OpenedStorage:
        """Open the folder on this disk, as a node does."""
        opened = open_data_dir(
            FOLDER,
            cluster_id=9,
            node_id=1,
            segment_bytes=SEGMENT_BYTES,
            files=self,
            random_bytes=self.rng.randbytes,
            durability=Durability.parse(durability),
            witness_path=WITNESS if self.has_witness else None,
        )
        self._incarnation = opened.incarnation
        return opened

    def begin(self, outcome: Hashable) -> None:
        """From now on `outcome` may be found too."""
        self._allowed.append(outcome)

    def acknowledge(self) -> None:
        """From now on only the last outcome may be found."""
        del self._allowed[:-1]

    def append(self, opened: OpenedStorage, log: Log, *batches: WalBatch) -> None:
        """Append as one batch and keep the books."""
        for batch in batches:
            log.apply(batch)
        self.begin(log.outcome())
        opened.wal.append(batches)
        if opened.wal.durability.is_safe:
            self.acknowledge()
        self.freeze()

    def freeze(self) -> None:
        """Take a cut here."""
        root = self._freeze_directory(self._root)
        self.cuts.append(
            Cut(self._workload, len(self.calls), root, tuple(self._allowed), self._incarnation, self.has_witness)
        )

    def crash(self, rng: Random) -> None:
        """Cut the power; what the cuts shared so far is not what is there now."""
        super().crash(rng)
        self._frozen.clear()

    def _note(self, operation: str, name: str) -> None:
        if operation not in {"pread", "drop_cache"}:
            self.freeze()
        super()._note(operation, name)

    def _sync(self, operation: str, descriptor: int) -> None:
        super()._sync(operation, descriptor)
        self._syncs[id(self._open[descriptor][0])] += 1

    def _freeze_directory(self, directory: _Directory) -> FrozenDirectory:
        names = tuple((name, self._freeze(node)) for name, node in directory.durable.items())
        changes = tuple(
            (removed, added, None if node is None else self._freeze(node))
            for removed, added, node in directory.unsynced
        )
        return FrozenDirectory(names, changes)

    def _freeze(self, node: _File | _Directory) -> Node:
        if isinstance(node, _Directory):
            return self._freeze_directory(node)
        # Cuts share the contents as long as nothing was written or synced; one file is one object in a cut.
        stamp = (len(node.unsynced), self._syncs[id(node)])
        found = self._frozen.get(id(node))
        if found is None or found[0] != stamp:
            found = (stamp, FrozenFile(bytes(node.durable), tuple(node.unsynced)), node)
            self._frozen[id(node)] = found
        return found[1]
