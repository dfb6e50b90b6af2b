"""The actor that makes things durable."""

from __future__ import annotations

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import AppendsDone, AppendWork, Outbound
from raftactors.core.messages import Message
from raftactors.core.types import HardState
from raftactors.storage import Wal, WalBatch


class StorageActor(BatchActor):
    """Writes everything that waits with one write and one sync, then releases the responses that waited for it.

    The order is the heart of Raft's durability (RELIABILITY 2.1): votes and acknowledgements travel inside the append
    work as `responses`, so they cannot leave before the sync that they depend on. Those for other nodes go straight to
    the transport, which saves a hop; those for this node go to consensus. Work is finished in the order it came.

    A commit index alone is not worth a sync: Raft finds it again after a restart. It is remembered and written with the
    next batch that has entries, a term or a vote in it.
    """

    def __init__(
        self, mailbox: Mailbox, *, node_id: int, wal: Wal, hard_state: HardState, consensus: Mailbox, transport: Mailbox
    ) -> None:
        super().__init__(mailbox)
        self._node_id = node_id
        self._wal = wal
        self._written = hard_state
        self._latest = hard_state
        self._consensus = consensus
        self._transport = transport
        self._work: list[Message] = []
        self.handlers = {AppendWork: self._on_append}

    def _on_append(self, work: AppendWork) -> None:
        self._work.append(work.message)

    def flush(self) -> None:
        """Make the batch durable and release its responses."""
        if not self._work:
            return
        work, self._work = self._work, []
        batches = [batch for message in work if (batch := self._batch_of(message)) is not None]
        if batches:
            self._wal.append(batches)
        outbound = [reply for message in work for reply in message.responses if reply.to != self._node_id]
        if outbound:
            self._transport.tell(Outbound(outbound), Lane.STORAGE)
        self._consensus.tell(AppendsDone(work), Lane.STORAGE)

    def shut_down(self) -> None:
        """Write a commit index that no batch carried yet, so that a clean restart replays less from the leader."""
        if self._latest != self._written:
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
