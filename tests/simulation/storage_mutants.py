"""Bugs of the disk: what is not synced, what is believed after a crash."""

from __future__ import annotations

from collections.abc import Sequence

from pytest import MonkeyPatch

from raftactors.core.types import Entry
from raftactors.storage import MemoryFiles, Wal, WalBatch
from raftactors.storage import replay as replay_module
from raftactors.storage.replay import LogState
from raftactors.testing.simulation.disk import Durable, SimulatedDisk
from raftactors.testing.simulation.process import Process
from tests.simulation.mutant import CaughtBy, mutant


class _EqualToAll:
    """A checksum that never differs."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


@mutant("the log is written and not synced")
def fdatasync_skipped(patch: MonkeyPatch) -> None:
    patch.setattr(MemoryFiles, "fdatasync", lambda self, descriptor: None)


@mutant("names are not made durable (etcd PR #22314, ClickHouse Keeper #111339, hashicorp/raft #229)")
def directory_not_synced(patch: MonkeyPatch) -> None:
    patch.setattr(MemoryFiles, "fsync_dir", lambda self, path: None)


@mutant("the checksum over a batch is not looked at, so a torn one passes", caught_by=CaughtBy.DISK)
def torn_tail_accepted(patch: MonkeyPatch) -> None:
    patch.setattr(replay_module, "batch_crc", lambda *arguments: _EqualToAll())


@mutant("a replaced suffix comes back when the log is read", caught_by=CaughtBy.DISK)
def replay_keeps_replaced_entries(patch: MonkeyPatch) -> None:
    right = LogState._append

    def append(self: LogState, first: int, entries: list[Entry]) -> None:
        position = first - self.snapshot.index - 1
        behind = self.entries[position + len(entries) :] if 0 <= position <= len(self.entries) else []
        right(self, first, entries)
        self.entries += behind

    patch.setattr(LogState, "_append", append)


@mutant("the term and vote are written only together with entries (PySyncObj #202)")
def hard_state_without_entries_lost(patch: MonkeyPatch) -> None:
    right = Wal.append

    def append(self: Wal, batches: Sequence[WalBatch]) -> None:
        right(self, [batch for batch in batches if batch.entries or batch.snapshot is not None])

    patch.setattr(Wal, "append", append)


@mutant("the responses of a write leave before it is durable")
def responses_before_sync(patch: MonkeyPatch) -> None:
    right = Process._write

    def write(self: Process) -> None:
        fresh = not self.storage.writing
        right(self)
        if fresh:
            for work in self.storage.writing:
                for response in getattr(work, "responses", ()):
                    if response.to != self.node_id:
                        self.world.network.send(self, response)

    patch.setattr(Process, "_write", write)


@mutant("the log names a snapshot whose content is not on the disk")
def snapshot_content_not_synced(patch: MonkeyPatch) -> None:
    patch.setattr(MemoryFiles, "fsync", lambda self, descriptor: None)


@mutant("a compaction forgets the entries behind the snapshot (canonical/raft #199)")
def compaction_drops_the_tail(patch: MonkeyPatch) -> None:
    right = SimulatedDisk.append

    def append(self: SimulatedDisk, batches: Sequence[WalBatch]) -> None:
        right(self, [batch._replace(entries=()) if batch.snapshot is not None else batch for batch in batches])

    patch.setattr(SimulatedDisk, "append", append)


@mutant("a node comes back with an empty disk under its old name (etcd #13509, NuRaft #185)")
def empty_disk_accepted(patch: MonkeyPatch) -> None:
    right = SimulatedDisk.crash

    def crash(self: SimulatedDisk, *, power: bool) -> None:
        right(self, power=power)
        if power and self.durable.last_index > 12:
            self.files, self.durable = MemoryFiles(), Durable()

    patch.setattr(SimulatedDisk, "crash", crash)
