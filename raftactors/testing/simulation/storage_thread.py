"""The order rules of the storage actor: write what waits, sync once, only then release what waited for it."""

from __future__ import annotations

from typing import NamedTuple

from raftactors.core.messages import Message, MessageType
from raftactors.core.types import HardState, Snapshot
from raftactors.storage import WalBatch
from raftactors.testing.simulation.disk import SimulatedDisk


class Compaction(NamedTuple):
    """A snapshot of the node's own application, to replace the log up to its index."""

    snapshot: Snapshot


Work = Message | Compaction


class StorageThread:
    """Work that waits, work that is being written. A commit index alone waits for the next batch, see the actor.

    Except below a membership change that is to be applied: a node that forgot it was committed could come back with
    an older membership than the one that it helped to replace, and elect a leader in it. `commit_wanted` names the
    commit index that must be on the disk before.
    """

    def __init__(self, disk: SimulatedDisk, hard_state: HardState) -> None:
        self.disk = disk
        self.waiting: list[Work] = []
        self.writing: list[Work] = []
        self.commit_wanted = 0
        self._latest = self._written = hard_state

    def want_commit(self, index: int) -> None:
        """Let the disk know soon that everything up to `index` is committed."""
        self.commit_wanted = max(self.commit_wanted, index)
        if index > self.disk.durable.hard_state.commit:
            self.waiting.append(Message(MessageType.STORAGE_APPEND))

    def begin(self) -> bool:
        """Take everything that waits into one write; False if there is nothing, or a write is under way."""
        if self.writing or not self.waiting:
            return False
        self.writing, self.waiting = self.waiting, []
        return True

    def finish(self) -> list[Work]:
        """Make the write durable and return its work, whose responses may leave now."""
        batches = self.batches()
        if batches:
            self.disk.append(batches)
        done, self.writing = self.writing, []
        return done

    def batches(self) -> list[WalBatch]:
        """What the work under way puts on the disk."""
        return [batch for work in self.writing if (batch := self._batch_of(work)) is not None]

    def _batch_of(self, work: Work) -> WalBatch | None:
        if isinstance(work, Compaction):
            return self._compacted(work.snapshot)
        if work.term:
            self._latest = HardState(work.term, work.vote, work.commit)
        if not work.entries and work.snapshot is None and not self._must_write():
            return None
        hard_state = self._latest if self._latest != self._written else None
        self._written = self._latest
        return WalBatch(hard_state, work.entries, work.snapshot)

    def _must_write(self) -> bool:
        if self._latest[:2] != self._written[:2]:
            return True
        return self._written.commit < self.commit_wanted <= self._latest.commit

    def _compacted(self, snapshot: Snapshot) -> WalBatch | None:
        durable = self.disk.durable.after(self._before(snapshot))
        if snapshot.index <= durable.snapshot.index:
            return None
        self._written = self._latest
        behind = durable.entries[snapshot.index - durable.snapshot.index :]
        return WalBatch(self._latest, behind, snapshot)

    def _before(self, snapshot: Snapshot) -> list[WalBatch]:
        """What the same write puts in front of a compaction."""
        batches: list[WalBatch] = []
        for work in self.writing:
            if isinstance(work, Compaction):
                if work.snapshot is snapshot:
                    break
            elif work.entries or work.snapshot is not None:
                batches.append(WalBatch(None, work.entries, work.snapshot))
        return batches
