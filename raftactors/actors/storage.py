"""The actor that makes things durable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    AppendsDone,
    AppendWork,
    DiskSpace,
    Outbound,
    SnapshotRecorded,
    SnapshotSaved,
)
from raftactors.core.messages import Message
from raftactors.core.types import HardState, Snapshot
from raftactors.errors import DiskFullError
from raftactors.storage import Wal, WalBatch

log = logging.getLogger("raftactors.node")

SPACE_RETRY_S = 1.0
"""Time between two looks whether a full disk has room again."""


class StorageActor(BatchActor):
    """Writes everything that waits with one write and one sync, then releases the responses that waited for it.

    The order is the heart of Raft's durability (RELIABILITY 2.1): votes and acknowledgements travel inside the append
    work as `responses`, so they cannot leave before the sync that they depend on. Those for other nodes go straight to
    the transport, which saves a hop; those for this node go to consensus. Work is finished in the order it came.

    A commit index alone is not worth a sync: Raft finds it again after a restart. It is remembered and written with the
    next batch that has entries, a term or a vote in it.

    When there is no room for the next segment of the log, consensus is told so and brings no more entries; terms and
    votes, and what was under way, go into what is left of the live segment. Should that not do, everything waits here,
    unanswered, until there is room.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        node_id: int,
        wal: Wal,
        hard_state: HardState,
        consensus: Mailbox,
        transport: Mailbox,
        snapshot_writer: Mailbox,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(mailbox)
        self._node_id = node_id
        self._wal = wal
        self._written = hard_state
        self._latest = hard_state
        self._consensus = consensus
        self._transport = transport
        self._snapshot_writer = snapshot_writer
        self._clock = clock
        self._work: list[Message] = []
        self._batches: list[WalBatch] = []
        self._saved: list[Snapshot] = []
        self._is_full = False
        self._is_held = False
        self._space_due_s = 0.0
        self.handlers = {AppendWork: self._on_append, SnapshotSaved: self._on_saved}

    def _on_append(self, work: AppendWork) -> None:
        self._work.append(work.message)
        batch = self._batch_of(work.message)
        if batch is not None:
            self._batches.append(batch)

    def _on_saved(self, saved: SnapshotSaved) -> None:
        """Put a record of the snapshot into the log, with a commit index that is not below it (RELIABILITY 2.6)."""
        self._saved.append(saved.snapshot)
        kept = self._wal.kept_snapshots()
        # One that was received in the meantime may have gone beyond it; then its file is of no use any more.
        if not kept or saved.snapshot.index > kept[-1].index:
            self._written = self._latest
            self._batches.append(WalBatch(self._latest, (), taken=saved.snapshot))

    def flush(self) -> None:
        """Make the batch durable and release its responses; look for space when the disk is full."""
        if self._is_full:
            if self._clock() < self._space_due_s and self._is_held:
                return
            self._seek_space()
        if (self._work or self._saved) and self._make_durable():
            work, self._work, self._batches = self._work, [], []
            # A received snapshot is acknowledged by consensus, once the application has become what it holds.
            outbound = [
                reply
                for message in work
                if message.snapshot is None
                for reply in message.responses
                if reply.to != self._node_id
            ]
            if outbound:
                self._transport.tell(Outbound(outbound), Lane.STORAGE)
            if work:
                self._consensus.tell(AppendsDone(work), Lane.STORAGE)
            if self._saved or any(message.snapshot is not None for message in work):
                self._release()
        if self._wal.lacks_space != self._is_full:
            self._is_full = not self._is_full
            self._consensus.tell(DiskSpace(is_full=self._is_full), Lane.STORAGE)
            self._space_due_s = self._clock() + SPACE_RETRY_S
            self.mailbox.idle_timeout_s = SPACE_RETRY_S if self._is_full else None

    def _release(self) -> None:
        """Let go of what the snapshots that the log now vouches for make superfluous; removing it takes time."""
        self._wal.sync()  # Also where appends are not: what goes now cannot be brought back.
        saved, self._saved = self._saved, []
        released, kept = self._wal.release_segments(), self._wal.kept_snapshots()
        older_index = kept[0].index if len(kept) > 1 else 0
        recorded: list[Snapshot | None] = [*saved] or [None]
        for snapshot in recorded:
            self._snapshot_writer.tell(SnapshotRecorded(snapshot, released, older_index), Lane.STORAGE)
            released = []

    def _make_durable(self) -> bool:
        if self._batches:
            try:
                self._wal.append(self._batches)
            except DiskFullError as error:
                log.warning("%s", error)
                self._is_held = True
                return False
        self._is_held = False
        return True

    def _seek_space(self) -> None:
        if self._clock() >= self._space_due_s:
            self._space_due_s = self._clock() + SPACE_RETRY_S
            self._wal.seek_space()

    def shut_down(self) -> None:
        """Write a commit index that no batch carried yet, so that a clean restart replays less from the leader."""
        if self._latest != self._written and not self._is_held:
            self._wal.append([WalBatch(self._latest, ())])

    def _batch_of(self, message: Message) -> WalBatch | None:
        if message.term:
            self._latest = HardState(message.term, message.vote, message.commit)
        moved = (self._latest.term, self._latest.vote) != (self._written.term, self._written.vote)
        if not message.entries and not moved and message.snapshot is None:
            return None
        hard_state = self._latest if self._latest != self._written else None
        self._written = self._latest
        return WalBatch(hard_state, message.entries, message.snapshot)
