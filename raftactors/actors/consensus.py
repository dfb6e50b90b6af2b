"""The actor that owns the Raft state machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from raftactors.actors.base import BatchActor
from raftactors.actors.consensus_snapshots import ConsensusSnapshots
from raftactors.actors.disk_duty import DiskDuty
from raftactors.actors.leader_silence import LeaderSilence
from raftactors.actors.leadership_transfers import LeadershipTransfers
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    AdminRequest,
    AppendsDone,
    AppendWork,
    AppliesDone,
    ApplyWork,
    ClientFrame,
    DiskSpace,
    Drain,
    LeaderChanged,
    Outbound,
    PeerMessages,
    Proposals,
    RaftReport,
    Reads,
    ReadsReady,
    Refused,
    Replies,
    SnapshotArrived,
    Tick,
    Unreachable,
)
from raftactors.actors.proposals import PendingReads, combine
from raftactors.codec import replies
from raftactors.codec.batch import stamp_batch
from raftactors.config import Durability, NodeConfig
from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.ready import Ready
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import APPEND_THREAD, APPLY_THREAD, Entry, EntryType, Role, SoftState
from raftactors.errors import (
    ConfChangeError,
    DataLostError,
    ProposalDropped,
    StepLocalMessageError,
    StepPeerNotFoundError,
)

log = logging.getLogger("raftactors.node")


class Neighbours(NamedTuple):
    """The mailboxes that consensus tells."""

    storage: Mailbox
    transport: Mailbox
    application: Mailbox
    gateway: Mailbox
    monitor: Mailbox
    snapshot_writer: Mailbox
    snapshot_transfer: Mailbox


class Consensus(BatchActor):
    """Feeds one mailbox batch into the `RawNode` and fans its `Ready` out: one append, one apply, one send a batch.

    The stored part of the log that the core reads lives in `log`, in memory. Entries enter it when the storage actor
    reports them durable and before the core hears of it, so the core never sees an entry as stored that is not.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        config: NodeConfig,
        incarnation: int,
        raft: RawNode,
        log: MemoryStorage,
        neighbours: Neighbours,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(mailbox)
        self._config = config
        self._node_id = config.node_id
        self._incarnation = incarnation
        self._raft = raft
        self._log = log
        self._to = neighbours
        self._wall_clock_ns = wall_clock_ns
        self._soft = SoftState(0, Role.FOLLOWER)
        self._disk = DiskDuty(
            node_id=config.node_id, raft=raft, timing=config.timing, transfer_target=self._transfer_target
        )
        self._leader_silence = LeaderSilence(raft)
        self._transfers = LeadershipTransfers(
            node_id=config.node_id, raft=raft, timing=config.timing, answer=self._answer_admin
        )
        self._durable_term = log.initial_state()[0].term
        self._ticks = 0
        self._now_ms = 0
        self._proposals: list[ClientFrame] = []
        self._read_frames: list[ClientFrame] = []
        self._reads = PendingReads(config.node_id, incarnation)
        self._draining: Callable[[], None] | None = None
        self.handlers = {
            Tick: self._on_tick,
            PeerMessages: self._on_peers,
            AppendsDone: self._on_appends_done,
            DiskSpace: self._on_disk_space,
            AppliesDone: self._on_applies_done,
            Proposals: self._on_proposals,
            Reads: self._on_reads,
            Unreachable: self._on_unreachable,
            AdminRequest: self._on_admin,
            Drain: self._on_drain,
            SnapshotArrived: self._on_snapshot_arrived,
        }
        self._snapshots = ConsensusSnapshots(
            config=config,
            raft=raft,
            log=log,
            application=neighbours.application,
            transport=neighbours.transport,
            writer=neighbours.snapshot_writer,
            transfer=neighbours.snapshot_transfer,
            step_own=self._step_own,
        )
        self.handlers |= self._snapshots.handlers

    # --- input ---

    def _on_tick(self, tick: Tick) -> None:
        tick.waiting = False
        self._ticks += 1
        self._disk.tick()
        self._raft.tick()
        self._leader_silence.tick()
        self._transfers.tick()
        # A read round whose messages were lost is never repeated by Raft; its clients are told to ask again.
        lost = self._reads.give_up(before_tick=self._ticks - self._config.timing.election_ticks)
        if lost:
            self._to.gateway.tell(Refused(lost), Lane.STORAGE)
        self._report()

    def _on_disk_space(self, space: DiskSpace) -> None:
        self._disk.set_full(space.is_full)
        self._report()

    def _on_peers(self, inbound: PeerMessages) -> None:
        for message in inbound.messages:
            if self._disk.refuses(message):
                continue
            self._look_for_lost_data(message)
            forwarded = message.type == MessageType.PROP and self._soft.role is Role.LEADER
            try:
                self._raft.step(self._restamped(message) if forwarded else message)
            except (ProposalDropped, StepPeerNotFoundError, StepLocalMessageError):
                # A forwarded proposal that cannot be taken is sent again by its client; the others are stale or forged.
                continue

    def _look_for_lost_data(self, message: Message) -> None:
        """Stop when a leader names an entry that this node has acknowledged to it and does not hold.

        A heartbeat's commit index never exceeds what its addressee has acknowledged to that very leader (thesis 3.5).
        """
        raft = self._raft.raft
        if (
            message.type is MessageType.HEARTBEAT
            and message.commit > raft.log.last_index()
            and message.term >= raft.term
            and Durability.parse(self._config.durability).is_safe
        ):
            raise DataLostError(
                f"node {message.sender} leads, this node has acknowledged entry {message.commit} to it, but its log "
                f"ends at {raft.log.last_index()}: the data is lost or an old copy; put the right folder back, or make "
                "it anew with `raftactors rebuild`"
            )

    def _on_appends_done(self, done: AppendsDone) -> None:
        self._disk.finished(len(done.messages))
        for message in done.messages:
            self._durable_term = max(self._durable_term, message.term)
        self._snapshots.take_appended(done.messages)

    def _on_snapshot_arrived(self, arrived: SnapshotArrived) -> None:
        self._on_peers(PeerMessages([arrived.message]))

    def _on_applies_done(self, done: AppliesDone) -> None:
        for message in done.messages:
            for entry in message.entries:
                # A received snapshot brings a later membership than the entries that it overtook.
                if entry.type is not EntryType.NORMAL and entry.index > self._snapshots.received_index:
                    self._change_membership(entry)
            self._step_own(message)

    def _may_read(self) -> bool:
        """Whether the core may be asked: it answers a single voter at once, with whatever commit index it has.

        After a start that may lie below what was confirmed before, so the first commit of the term is waited for.
        """
        raft = self._raft.raft
        single = raft.role is Role.LEADER and raft.tracker.is_singleton
        return not single or raft.has_committed_in_term()

    def _step_own(self, message: Message) -> None:
        for response in message.responses:
            if response.to == self._node_id:
                self._raft.step(response)

    def _change_membership(self, entry: Entry) -> None:
        try:
            self._raft.apply_conf_change(decode_conf_change(entry))
        except ConfChangeError:
            # Every node refuses the same change at the same index, so leaving it out keeps them equal.
            return

    def _on_proposals(self, proposals: Proposals) -> None:
        self._proposals += proposals.frames

    def _on_reads(self, reads: Reads) -> None:
        self._read_frames += reads.frames

    def _on_unreachable(self, unreachable: Unreachable) -> None:
        for node_id in unreachable.node_ids:
            self._raft.report_unreachable(node_id)

    def _on_admin(self, request: AdminRequest) -> None:
        match request.operation, request.arguments:
            case "transfer_leader", (target,):
                self._transfers.request(request.pending_id, target)
            case _:
                text = f"unknown operation {request.operation!r} or arguments"
                self._answer_admin(request.pending_id, replies.encode_rejected(self._soft.leader_id, text))

    def _answer_admin(self, pending_id: int, body: bytes) -> None:
        self._to.gateway.tell(Replies([(pending_id, body)]), Lane.STORAGE)

    def _on_drain(self, drain: Drain) -> None:
        self._draining = drain.done
        if self._soft.role is Role.LEADER:
            target = self._transfer_target()
            if target:
                self._raft.transfer_leader(target)

    def _transfer_target(self) -> int:
        """The active voter that holds most of the log, 0 when there is none."""
        candidates = [
            (progress.match, node_id)
            for node_id, progress in self._raft.raft.tracker.progress.items()
            if node_id != self._node_id and progress.recent_active and not progress.is_learner
        ]
        return max(candidates, default=(0, 0))[1]

    # --- output ---

    def flush(self) -> None:
        """Propose and read what the batch brought, then perform every `Ready` that came of it."""
        if self._proposals or self._read_frames:
            self._refuse_for_disk()
        if self._proposals:
            self._propose()
        if self._read_frames and self._may_read():
            waiting, self._read_frames = self._read_frames, []
            self._raft.read_index(self._reads.begin(waiting, self._ticks))
        self._transfers.look()
        while self._raft.has_ready():
            self._perform(self._raft.ready())
        if self._draining is not None and (self._soft.role is not Role.LEADER or not self._transfer_target()):
            self._draining()
            self._draining = None

    def _refuse_for_disk(self) -> None:
        """Send clients on to the leader, or away for a while, with what this node's disk could not finish now."""
        leads = self._raft.raft.role is Role.LEADER
        refused: list[ClientFrame] = []
        if not self._disk.takes_proposals(leads=leads):
            refused, self._proposals = self._proposals, []
        if not self._disk.takes_reads(leads=leads):
            refused, self._read_frames = refused + self._read_frames, []
        if refused:
            self._to.gateway.tell(Refused([frame.pending_id for frame in refused], busy=leads), Lane.STORAGE)

    def _propose(self) -> None:
        waiting, self._proposals = self._proposals, []
        payloads = combine(
            waiting,
            bytes_max=self._config.limits.proposal_bytes_max,
            origin_node=self._node_id,
            origin_incarnation=self._incarnation,
            now_ms=self._stamp_ms(),
        )
        for payload, pending_ids in payloads:
            try:
                self._raft.propose(payload)
            except ProposalDropped:
                overloaded = self._soft.role is Role.LEADER and self._draining is None
                self._to.gateway.tell(Refused(pending_ids, busy=overloaded), Lane.STORAGE)

    def _perform(self, ready: Ready) -> None:
        if ready.soft_state is not None:
            self._on_soft_state(ready.soft_state)
        append: Message | None = None
        apply: Message | None = None
        outbound: list[Message] = []
        for message in ready.messages:
            if message.to == APPEND_THREAD:
                append = message
            elif message.to == APPLY_THREAD:
                apply = message
            elif message.type == MessageType.SNAP:
                self._snapshots.send(message)
            else:
                outbound.append(message)
        if outbound:
            append = self._send(outbound, append)
        if append is not None:
            self._disk.handed_out()
            self._to.storage.tell(AppendWork(append), Lane.STORAGE)
        if apply is not None:
            self._to.application.tell(ApplyWork(apply), Lane.STORAGE)
        for read in ready.read_states:
            confirmed = self._reads.confirm(read.context)
            if confirmed:
                self._to.application.tell(ReadsReady(read.index, confirmed), Lane.STORAGE)

    def _send(self, outbound: list[Message], append: Message | None) -> Message | None:
        """Send what may leave now, and put the rest behind the disk; returns the append work as it is then.

        Nothing but appends leaves while the term is not durable (RELIABILITY 2.1, rules 4 and 5): everything else
        travels with the append work as if it were a response. That costs one sync an election.
        """
        if self._raft.raft.term > self._durable_term:
            held = tuple(message for message in outbound if message.type != MessageType.APP)
            outbound = [message for message in outbound if message.type == MessageType.APP]
            if append is None:
                append = Message(MessageType.STORAGE_APPEND, to=APPEND_THREAD, sender=self._node_id)
            append = append._replace(responses=held + append.responses)
        if outbound:
            self._to.transport.tell(Outbound(outbound), Lane.PEERS)
        return append

    def _on_soft_state(self, soft: SoftState) -> None:
        changed = soft.leader_id != self._soft.leader_id
        self._soft = soft
        if changed:
            change = LeaderChanged(soft.leader_id, self._raft.raft.term)
            self._to.gateway.tell(change, Lane.CONTROL)
            self._to.application.tell(change, Lane.CONTROL)
            self._to.snapshot_transfer.tell(change, Lane.CONTROL)
        self._report()

    def _report(self) -> None:
        raft = self._raft.raft
        report = RaftReport(
            role=self._soft.role.value,
            term=raft.term,
            leader_id=self._soft.leader_id,
            commit_index=raft.log.committed,
            last_index=raft.log.last_index(),
            disk=self._disk.state.value,
            first_index=self._log.first_index(),
            leader_silence_ticks_max=self._leader_silence.ticks_max,
        )
        self._to.monitor.tell(report, Lane.CONTROL)

    def _stamp_ms(self) -> int:
        self._now_ms = max(self._now_ms, self._wall_clock_ns() // 1_000_000)
        return self._now_ms

    def _restamped(self, message: Message) -> Message:
        # The leader's clock is the one that replicated time follows, whoever collected the commands.
        now_ms = self._stamp_ms()
        entries = tuple(
            entry._replace(data=stamp_batch(entry.data, now_ms))
            if entry.data and entry.type is EntryType.NORMAL
            else entry
            for entry in message.entries
        )
        return message._replace(entries=entries)
