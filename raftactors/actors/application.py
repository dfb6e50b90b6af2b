"""The actor that hosts the user's state machine."""

from __future__ import annotations

from collections import deque

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    AdminRequest,
    Applied,
    AppliesDone,
    ApplyWork,
    LeaderChanged,
    ReadsReady,
    Replies,
    Tick,
)
from raftactors.app.host import ApplicationHost
from raftactors.codec import replies
from raftactors.core.messages import Message


class ApplicationActor(BatchActor):
    """Applies committed entries in order, answers the commands that came in here, and runs queries.

    A query waits until the index that its read round confirmed is applied (thesis section 6.4).
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
    ) -> None:
        super().__init__(mailbox)
        self._host = host
        self._incarnation = incarnation
        self._consensus = consensus
        self._gateway = gateway
        self._monitor = monitor
        self._applied: list[Message] = []
        self._replies: list[tuple[int, bytes]] = []
        self._reads: deque[ReadsReady] = deque()
        self._published_index = -1
        self.handlers = {
            ApplyWork: self._on_apply,
            ReadsReady: self._on_reads,
            LeaderChanged: self._on_leader_changed,
            AdminRequest: self._on_admin,
            Tick: self._on_tick,
        }

    def _on_apply(self, work: ApplyWork) -> None:
        for entry in work.message.entries:
            self._replies += self._host.apply(entry, origin_incarnation=self._incarnation)
        self._applied.append(work.message)

    def _on_reads(self, reads: ReadsReady) -> None:
        self._reads.append(reads)

    def _on_leader_changed(self, change: LeaderChanged) -> None:
        self._host.leader_id = change.leader_id

    def _on_admin(self, request: AdminRequest) -> None:
        # The digest is taken here, between two batches, so index and state belong together.
        document = {"applied": self._host.applied_index, "state_digest": self._host.state_digest()}
        body = replies.encode_document(self._host.leader_id, document, index=self._host.applied_index)
        self._replies.append((request.pending_id, body))

    def _on_tick(self, tick: Tick) -> None:
        tick.waiting = False
        if self._host.applied_index != self._published_index:
            self._published_index = self._host.applied_index
            self._monitor.tell(Applied(self._published_index, f"{self._host.digest:08x}"), Lane.CONTROL)

    def flush(self) -> None:
        """Report what was applied and hand out the replies of the whole batch at once."""
        if self._applied:
            done, self._applied = self._applied, []
            self._consensus.tell(AppliesDone(done), Lane.STORAGE)
        self._answer_reads()
        if self._replies:
            answered, self._replies = self._replies, []
            self._gateway.tell(Replies(answered), Lane.STORAGE)

    def _answer_reads(self) -> None:
        applied_index = self._host.applied_index
        # Read indexes only grow on one node, so the first that is too new ends the look.
        while self._reads and self._reads[0].read_index <= applied_index:
            for frame in self._reads.popleft().frames:
                self._replies.append((frame.pending_id, self._host.query(applied_index, memoryview(frame.payload)[1:])))
