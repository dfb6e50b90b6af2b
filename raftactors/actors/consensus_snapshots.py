"""The consensus actor's part in snapshots: compaction of its log, snapshots for others, and those that come in."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    Outbound,
    Restored,
    RestoreWork,
    SaveSnapshot,
    SendSnapshot,
    SnapshotEnded,
    SnapshotFrozen,
    SnapshotReports,
    SnapshotTaken,
    TakeSnapshot,
)
from raftactors.config import Limits, NodeConfig
from raftactors.core.messages import Message
from raftactors.core.progress import ProgressState
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import UNLIMITED, Snapshot

log_to = logging.getLogger("raftactors.node")


class ConsensusSnapshots:
    """Used by the consensus actor alone, on its thread.

    Work that the storage actor has done is taken in its order. A received snapshot stops the queue until the
    application has become what it holds: only then is it acknowledged, and only then does the core hand out what
    follows it (RELIABILITY 2.6: record and sync, swap, acknowledge).
    """

    def __init__(
        self,
        *,
        config: NodeConfig,
        raft: RawNode,
        log: MemoryStorage,
        application: Mailbox,
        transport: Mailbox,
        writer: Mailbox,
        transfer: Mailbox,
        step_own: Callable[[Message], None],
    ) -> None:
        self._config = config
        self._raft = raft
        self._log = log
        self._application = application
        self._transport = transport
        self._writer = writer
        self._transfer = transfer
        self._step_own = step_own
        self._appended: deque[Message] = deque()
        self._restoring = False
        self._restored_index = 0
        self._unreachable: set[int] = set()
        self.handlers: dict[type, Callable[..., None]] = {
            SnapshotFrozen: self._on_frozen,
            SnapshotTaken: self._on_taken,
            SnapshotReports: self._on_reports,
            Restored: self._on_restored,
        }

    @property
    def received_index(self) -> int:
        """Where the last snapshot ends that the core took; its membership stands above that of earlier entries."""
        pending = self._raft.raft.log.unstable.snapshot
        return max(self._restored_index, 0 if pending is None else pending.index)

    # --- what the disk has done -------------------------------------------------------------------------------------

    def take_appended(self, messages: list[Message]) -> None:
        """Let the log and the core know of append work that is durable, in order."""
        self._appended += messages
        self._go_on()

    def _go_on(self) -> None:
        while self._appended and not self._restoring:
            message = self._appended[0]
            if message.snapshot is not None:
                self._restoring = True
                self._application.tell(RestoreWork(message.snapshot), Lane.STORAGE)
                return
            del self._appended[0]
            if message.entries:
                self._log.append(message.entries)
            self._step_own(message)

    def _on_restored(self, restored: Restored) -> None:
        message = self._appended.popleft()
        assert message.snapshot == restored.snapshot  # One at a time, in order.
        self._restoring = False
        self._log.apply_snapshot(restored.snapshot)
        self._restored_index = restored.snapshot.index
        if message.entries:
            self._log.append(message.entries)
        # The storage actor held these back.
        outbound = [response for response in message.responses if response.to != self._config.node_id]
        if outbound:
            self._transport.tell(Outbound(outbound), Lane.STORAGE)
        self._step_own(message)
        self._go_on()

    # --- snapshots of this node -------------------------------------------------------------------------------------

    def _on_frozen(self, frozen: SnapshotFrozen) -> None:
        """Give the frozen replica its membership: that of all changes applied so far, and these end where it does."""
        index, term, content = frozen.replica
        if index <= max(self.received_index, self._log.snapshot().index):
            self._application.tell(SnapshotEnded(index, error="a later snapshot was received"), Lane.STORAGE)
            return
        snapshot = Snapshot(index, term, self._raft.raft.tracker.conf_state())
        self._writer.tell(SaveSnapshot(snapshot, content), Lane.STORAGE)

    def _on_taken(self, taken: SnapshotTaken) -> None:
        snapshot = taken.snapshot
        if snapshot.index <= self._log.snapshot().index:
            return  # A received one came in between.
        self._log.create_snapshot(snapshot.index, snapshot.conf_state, b"")
        pending = [
            progress.pending_snapshot
            for progress in self._raft.raft.tracker.progress.values()
            if progress.state is ProgressState.SNAPSHOT
        ]
        compact(self._log, snapshot.index, self._config.limits, pinned=min(pending, default=snapshot.index))

    # --- snapshots for others ---------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Have the snapshot of a SNAP message brought to its member; the core hears how that went in every case."""
        assert message.snapshot is not None
        conf, to = message.snapshot.conf_state, message.to
        if to not in {*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next}:
            # A snapshot from before the member joined is of no use to it. A newer one is asked for, and the core
            # comes back after a heartbeat.
            log_to.info("the snapshot at %d does not know node %d; a newer one is taken", message.snapshot.index, to)
            self._application.tell(TakeSnapshot(), Lane.CONTROL)
            self._raft.report_snapshot(to, False)
            return
        member = next((member for member in self._config.members if member.node_id == to), None)
        if member is None or not member.snapshot_address or not self._config.me.snapshot_address:
            if to not in self._unreachable:
                self._unreachable.add(to)
                log_to.error(
                    "node %d needs a snapshot, and none can be sent: give it and this node a snapshot_address", to
                )
            self._raft.report_snapshot(to, False)
            return
        self._transfer.tell(SendSnapshot(message), Lane.STORAGE)

    def _on_reports(self, reports: SnapshotReports) -> None:
        for node_id, arrived in reports.reports:
            self._raft.report_snapshot(node_id, arrived)


def compact(log: MemoryStorage, index: int, limits: Limits, *, pinned: int) -> None:
    """Drop what the snapshot at `index` covers, save the trailing entries that slow members may still ask for.

    At most `trailing_entries` and `trailing_bytes` stay. A snapshot of index `pinned` is on its way to a member, which
    will ask for what follows it; to spare it a second one, up to `snapshot_bytes` of that stay as well.
    """
    first = log.first_index()
    oldest = max(first, min(index - limits.trailing_entries, pinned) + 1)
    last_dropped, size = oldest - 1, 0
    bytes_pinned = max(limits.trailing_bytes, limits.snapshot_bytes)
    if oldest <= index:
        for entry in reversed(log.entries(oldest, index + 1, UNLIMITED)):
            size += len(entry.data or b"")
            if size > (limits.trailing_bytes if entry.index <= pinned else bytes_pinned):
                last_dropped = entry.index
                break
    if last_dropped >= first:
        log.compact(last_dropped)
