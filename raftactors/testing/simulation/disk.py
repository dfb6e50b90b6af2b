"""The disk of one simulated node: the real log over files in memory, and beside it what must be on it.

The log stores no snapshot content: its SNAPSHOT record restarts the log behind an index. So the content is written
first, as a file of its own: temporary name, fsync, rename, fsync of the folder; the record follows, in one batch with
the entries behind the snapshot and a commit index that is not below it. A snapshot named by the log is thus always
there whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

from raftactors.core.types import EMPTY_HARD_STATE, Entry, HardState, Snapshot
from raftactors.errors import RaftActorsError
from raftactors.storage import MemoryFiles, OpenedStorage, PowerCut, Verdict, WalBatch, open_data_dir
from raftactors.testing.simulation.violation import Violation, require

CLUSTER_ID = 7
_FOLDER = Path("/node")
_KEPT_SNAPSHOTS = 2


class Durable(NamedTuple):
    """What a log amounts to: the dull model that recovery is compared with."""

    hard_state: HardState = EMPTY_HARD_STATE
    snapshot: Snapshot = Snapshot()
    entries: tuple[Entry, ...] = ()

    def after(self, batches: Sequence[WalBatch]) -> Durable:
        """The same with these batches appended."""
        hard_state, snapshot, entries = self
        for batch in batches:
            if batch.snapshot is not None:
                snapshot, entries = batch.snapshot, ()
            if batch.entries:
                kept = batch.entries[0].index - snapshot.index - 1
                entries = entries[:kept] + tuple(batch.entries)
            if batch.hard_state is not None:
                hard_state = batch.hard_state
        return Durable(hard_state, snapshot, entries)

    @property
    def last_index(self) -> int:
        """Index of the last entry, or of the snapshot."""
        return self.snapshot.index + len(self.entries)

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry of this term and index, or a snapshot over it, is there."""
        position = index - self.snapshot.index - 1
        return position < 0 or (position < len(self.entries) and self.entries[position].term == term)


class Recovered(NamedTuple):
    """What a start finds."""

    incarnation: int
    state: Durable
    torn: bool


class SimulatedDisk:
    """Survives its node. `durable` is what was acknowledged, `undecided` what a crash may have made durable or not."""

    def __init__(self, node_id: int, rng: Random, segment_bytes: int) -> None:
        self.node_id = node_id
        self.files = MemoryFiles()
        self.durable = Durable()
        self._undecided: Durable | None = None
        self._rng = rng
        self._segment_bytes = segment_bytes
        self._opened: OpenedStorage | None = None

    def open(self) -> Recovered:
        """Recover. Raises PowerCut if that was cut off; then `crash` must follow."""
        try:
            opened = open_data_dir(
                _FOLDER,
                cluster_id=CLUSTER_ID,
                node_id=self.node_id,
                segment_bytes=self._segment_bytes,
                files=self.files,
                random_bytes=self._rng.randbytes,
            )
        except RaftActorsError as error:
            raise Violation("refused_to_boot", f"node {self.node_id}: {error}") from error
        self._opened = opened
        snapshot = opened.snapshot
        if snapshot.index:
            snapshot = snapshot._replace(data=self._read_content(snapshot))
        found = Durable(opened.hard_state, snapshot, tuple(opened.entries))
        allowed = [state for state in (self.durable, self._undecided) if state is not None]
        require(
            found in allowed,
            "recovery",
            "node %d finds %s, expected %s",
            self.node_id,
            _describe(found),
            " or ".join(map(_describe, allowed)),
        )
        self.durable, self._undecided = found, None
        return Recovered(opened.incarnation, found, opened.recovery.verdict is Verdict.TORN)

    def append(self, batches: Sequence[WalBatch]) -> None:
        """Make batches durable, snapshot content first. Raises PowerCut where the power was cut."""
        assert self._opened is not None
        after = self.durable.after(batches)
        self._undecided = after
        for batch in batches:
            if batch.snapshot is not None:
                self._write_content(batch.snapshot)
        self._opened.wal.append(batches)
        self.durable, self._undecided = after, None

    def cut_power_during(self, batches: Sequence[WalBatch], after_calls: int) -> None:
        """Let the power go in the middle of writing `batches`."""
        self.files.cut_power(after_calls=after_calls)
        with suppress(PowerCut):
            self.append(batches)

    def crash(self, *, power: bool) -> None:
        """End the process, and with `power` lose what was not synced."""
        self._opened = None
        if power:
            self.files.crash(self._rng)
        else:
            self.files.end_process()

    def _content_path(self, snapshot: Snapshot) -> Path:
        return _FOLDER / "snap" / f"{snapshot.index:016x}-{snapshot.term:016x}.snap"

    def _write_content(self, snapshot: Snapshot) -> None:
        files, path = self.files, self._content_path(snapshot)
        if files.exists(path):
            return
        temporary = path.with_name("content.tmp")
        if files.exists(temporary):
            files.unlink(temporary)
        descriptor = files.open(temporary, create=True)
        files.pwrite(descriptor, snapshot.data, 0)
        files.fsync(descriptor)
        files.close(descriptor)
        files.rename(temporary, path)
        files.fsync_dir(path.parent)
        names = [name for name in files.listdir(path.parent) if name.endswith(".snap")]
        needed = {self._content_path(self.durable.snapshot).name, path.name, *names[-_KEPT_SNAPSHOTS:]}
        for name in names:
            if name not in needed:
                files.unlink(path.parent / name)

    def _read_content(self, snapshot: Snapshot) -> bytes:
        path = self._content_path(snapshot)
        require(
            self.files.exists(path),
            "snapshot_lost",
            "node %d: the log names the snapshot at index %d, its content is gone",
            self.node_id,
            snapshot.index,
        )
        return self.files.content(path)


def _describe(state: Durable) -> str:
    return f"({tuple(state.hard_state)}, snapshot {state.snapshot.index}, last index {state.last_index})"
