"""The actor that hosts the user's state machine."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    AdminRequest,
    AnswersFlow,
    Applied,
    AppliesDone,
    ApplyWork,
    LeaderChanged,
    ReadsReady,
    Replies,
    Restored,
    RestoreWork,
    SnapshotEnded,
    SnapshotFrozen,
    SnapshotRead,
    TakeSnapshot,
    Tick,
)
from raftactors.actors.query_turns import QueryTurns
from raftactors.actors.snapshot_trigger import SnapshotTrigger
from raftactors.app.host import ApplicationHost
from raftactors.codec import replies
from raftactors.config import Limits
from raftactors.core.messages import Message
from raftactors.errors import ApplicationStateError
from raftactors.storage.snapshot_file import SnapshotReader
from raftactors.storage.snapshots import SnapshotFolder

log = logging.getLogger("raftactors.node")

REPLIES_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of replies made that the gateway has not taken yet; commands executed past that are answered with RETRY."""

ALONE_SLICES = 10
"""Queries go on for so many slices while nothing else waits."""


class ApplicationActor(BatchActor):
    """Applies committed entries in order, answers the commands that came in here, and runs queries.

    A query waits until the index that its read round confirmed is applied (thesis section 6.4). Queries are answered in
    slices of `query_slice_ms` milliseconds, and not before the gateway has taken all but a frame of the last answers;
    between two slices everything else that waits has its turn. An application that keeps its own data commits once a
    batch, before anybody is told what was applied.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        host: ApplicationHost,
        incarnation: int,
        consensus: Mailbox,
        gateway: Mailbox,
        monitor: Mailbox,
        snapshots: SnapshotFolder,
        trigger: SnapshotTrigger,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(mailbox)
        self._host = host
        self._incarnation = incarnation
        self._consensus = consensus
        self._gateway = gateway
        self._monitor = monitor
        self._snapshots = snapshots
        self._trigger = trigger
        self._slice_s = limits.query_slice_ms / 1000
        self._answers_bytes_max = limits.client_frame_bytes_max
        self._clock = clock
        self._applied: list[Message] = []
        self._replies: list[tuple[int, bytes]] = []
        self._reply_bytes = 0
        self._untaken_bytes = 0
        self._reads: deque[ReadsReady] = deque()
        self._turns = QueryTurns()
        self._published_index = -1
        self.handlers = {
            ApplyWork: self._on_apply,
            ReadsReady: self._on_reads,
            AnswersFlow: self._on_flow,
            LeaderChanged: self._on_leader_changed,
            AdminRequest: self._on_admin,
            Tick: self._on_tick,
            RestoreWork: self._on_restore,
            TakeSnapshot: self._on_take_snapshot,
            SnapshotRead: self._on_snapshot_read,
            SnapshotEnded: self._on_snapshot_ended,
        }

    def _on_apply(self, work: ApplyWork) -> None:
        for entry in work.message.entries:
            for pending_id, body in self._host.apply(entry, origin_incarnation=self._incarnation):
                self._reply(pending_id, body)
        self._trigger.count(work.message.entries)
        self._applied.append(work.message)

    def _on_reads(self, reads: ReadsReady) -> None:
        self._reads.append(reads)

    def _on_flow(self, flow: AnswersFlow) -> None:
        self._untaken_bytes -= flow.taken_bytes
        for connection in flow.held:
            self._turns.hold(connection)
        for connection in flow.released:
            self._turns.release(connection)
        for connection in flow.gone:
            self._turns.forget(connection)

    def _on_leader_changed(self, change: LeaderChanged) -> None:
        self._host.leader_id = change.leader_id
        # The gateway sends back everything that is under way, these queries included.
        self._reads.clear()
        self._turns.forget_frames()

    def _on_restore(self, work: RestoreWork) -> None:
        """Become a received snapshot; everything before it was applied or is superseded by it."""
        self._report_applied()
        snapshot = work.snapshot
        reader = self._snapshots.reader(snapshot.term, snapshot.index)
        try:
            self._host.restore_from(self._watched(reader))
        finally:
            reader.close()
        if (self._host.applied_term, self._host.applied_index) != (snapshot.term, snapshot.index):
            raise ApplicationStateError(
                f"{reader.path}: holds the state at index {self._host.applied_index}, not at {snapshot.index}"
            )
        self._trigger.restored(snapshot.index)
        self._consensus.tell(Restored(snapshot), Lane.STORAGE)
        self._monitor.tell(SnapshotEnded(snapshot.index, snapshot.term, reader.trailer.file_bytes), Lane.CONTROL)

    def _watched(self, reader: SnapshotReader) -> Iterator[memoryview]:
        for chunk in reader.chunks():
            self.mailbox.still_working()
            yield chunk

    def _on_take_snapshot(self, wish: TakeSnapshot) -> None:
        self._trigger.want()

    def _on_snapshot_read(self, read: SnapshotRead) -> None:
        if self._trigger.thaw():
            self._host.thaw()

    def _on_snapshot_ended(self, ended: SnapshotEnded) -> None:
        self._on_snapshot_read(SnapshotRead())
        for pending_id in self._trigger.end(ended.index, failed=bool(ended.error)):
            self._reply(pending_id, self._snapshot_reply(ended))

    def _snapshot_reply(self, ended: SnapshotEnded) -> bytes:
        if ended.error:
            return replies.encode_rejected(self._host.leader_id, f"no snapshot was taken: {ended.error}")
        document = {"index": ended.index, "term": ended.term, "bytes": ended.bytes}
        return replies.encode_document(self._host.leader_id, document, index=self._host.applied_index)

    def _on_admin(self, request: AdminRequest) -> None:
        if request.operation == "snapshot":
            self._trigger.ask(request.pending_id)
            return
        # The digest is taken here, between two batches, so index and state belong together.
        document = {"applied": self._host.applied_index, "state_digest": self._host.state_digest()}
        body = replies.encode_document(self._host.leader_id, document, index=self._host.applied_index)
        self._reply(request.pending_id, body)

    def _on_tick(self, tick: Tick) -> None:
        tick.waiting = False
        self._trigger.tick()
        if self._host.applied_index != self._published_index:
            self._published_index = self._host.applied_index
            self._monitor.tell(Applied(self._published_index, f"{self._host.digest:08x}"), Lane.CONTROL)

    def flush(self) -> None:
        """Report what was applied and hand out the replies of the whole batch at once."""
        self._report_applied()
        self._answer_reads()
        self._take_snapshot()
        if self._replies:
            answered, self._replies = self._replies, []
            self._gateway.tell(Replies(answered, self._reply_bytes), Lane.STORAGE)
            self._untaken_bytes += self._reply_bytes
            self._reply_bytes = 0

    def _reply(self, pending_id: int, body: bytes) -> None:
        if self._untaken_bytes + self._reply_bytes > REPLIES_BYTES_MAX:
            # The session keeps the result; it is asked for again when there is room.
            body = replies.encode_retry(self._host.leader_id)
        self._reply_bytes += len(body)
        self._replies.append((pending_id, body))

    def _report_applied(self) -> None:
        self._host.commit()
        if self._applied:
            done, self._applied = self._applied, []
            self._consensus.tell(AppliesDone(done), Lane.STORAGE)

    def _take_snapshot(self) -> None:
        """Freeze the replica if it is time; what was applied has been reported, so consensus knows its membership."""
        applied_index = self._host.applied_index
        for pending_id in self._trigger.take_needless(applied_index):
            ended = SnapshotEnded(self._trigger.index)
            self._reply(pending_id, self._snapshot_reply(ended))
        if self._host.is_replaying or not self._trigger.is_due(applied_index):
            return
        self._trigger.begin()
        try:
            replica = self._host.freeze()
        except ApplicationStateError as error:
            log.error("no snapshot at index %d: %s", applied_index, error)
            self._on_snapshot_ended(SnapshotEnded(applied_index, error=str(error)))
            return
        self._consensus.tell(SnapshotFrozen(replica), Lane.STORAGE)

    def shut_down(self) -> None:
        """Close what the application keeps open."""
        self._host.close()

    def _answer_reads(self) -> None:
        applied_index = self._host.applied_index
        # Read indexes only grow on one node, so the first that is too new ends the look.
        while self._reads and self._reads[0].read_index <= applied_index:
            for frame in self._reads.popleft().frames:
                self._turns.add(frame)
        if self._turns:
            self._answer_slice(applied_index)
        # With an empty batch at once, if nothing else comes, the next slice begins.
        self.mailbox.idle_timeout_s = 0.0 if self._turns and self._may_answer() else None

    def _answer_slice(self, index: int) -> None:
        """Answer queries until the slice is over. Nothing is applied meanwhile, so one index holds for each answer."""
        begun_s = last_s = self._clock()

        def is_over() -> bool:
            worked_s = self._clock() - begun_s
            others_wait = bool(self._turns) or not self.mailbox.empty()
            return worked_s >= (self._slice_s if others_wait else ALONE_SLICES * self._slice_s)

        while self._may_answer() and last_s - begun_s < self._slice_s:
            frame = self._turns.take()
            if frame is None:
                return
            body = self._host.query(index, memoryview(frame.payload)[1:], is_over=is_over)
            self._reply(frame.pending_id, body)
            now_s = self._clock()
            self._turns.charge(frame.connection, now_s - last_s)
            last_s = now_s

    def _may_answer(self) -> bool:
        return self._untaken_bytes + self._reply_bytes < self._answers_bytes_max
