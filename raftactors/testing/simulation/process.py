"""One incarnation of a node: the real core, application host and session table under the actors' order rules.

What three actors do in a real node happens here in three kinds of events, so that everything between them is open:
messages may arrive, or the power may go, while a write or an apply is under way. See `raftactors.actors`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from raftactors.actors.messages import ClientFrame
from raftactors.actors.proposals import PendingReads, combine
from raftactors.app.host import ApplicationHost
from raftactors.codec import replies
from raftactors.codec.batch import stamp_batch
from raftactors.codec.frames import LOGGED_KINDS
from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.ready import Ready
from raftactors.core.types import APPEND_THREAD, APPLY_THREAD, Entry, EntryType, Role, Snapshot, SoftState
from raftactors.errors import ConfChangeError, ProposalDropped, StepLocalMessageError, StepPeerNotFoundError
from raftactors.testing.simulation.checks import Seen
from raftactors.testing.simulation.disk import Recovered, SimulatedDisk
from raftactors.testing.simulation.memory_log import SimulatedLog, make_raw_node
from raftactors.testing.simulation.plan import TICK_US
from raftactors.testing.simulation.schedule import Action
from raftactors.testing.simulation.storage_thread import Compaction, StorageThread
from raftactors.testing.simulation.violation import Violation

if TYPE_CHECKING:
    from raftactors.testing.simulation.simulation import Simulation

BUSY_RETRY_AFTER_MS = 20
_HOP_US = 50
_READIES_MAX = 10_000


def hold_vote_requests(messages: tuple[Message, ...]) -> list[Message]:
    """Let requests for votes wait, as responses do, until the candidate's own term and vote are durable.

    The core holds only the candidate's vote for itself back. A candidate that wins by the votes of the others alone
    would lead a term that its own disk does not know; after a crash it could win that term again, and put other
    entries under the same term and index.
    """
    requests = tuple(message for message in messages if message.type == MessageType.VOTE)
    if not requests:
        return list(messages)
    return [
        message._replace(responses=message.responses + requests) if message.to == APPEND_THREAD else message
        for message in messages
        if message.type != MessageType.VOTE
    ]


class Process:
    """Everything of a node that a crash ends."""

    def __init__(self, world: Simulation, disk: SimulatedDisk, recovered: Recovered) -> None:
        self.world = world
        self.node_id = disk.node_id
        self.disk = disk
        self.incarnation = recovered.incarnation
        self.alive = True
        self.doom: Callable[[], None] | None = None
        self.doom_as_leader: Callable[[], None] | None = None
        self._held: list[tuple[str, Action, tuple[Any, ...]]] | None = None
        self.rng = world.plan.random(f"node {self.node_id} {self.incarnation}")
        self.storage = StorageThread(disk, recovered.state.hard_state)
        self.log = SimulatedLog(recovered.state)
        self.host = ApplicationHost(world.workload.application(), limits=world.plan.limits, node_id=self.node_id)
        if recovered.state.snapshot.index:
            self.host.restore(recovered.state.snapshot.data)
            world.checks.restored(self)
        self.raw: RawNode = make_raw_node(world.plan, self)
        self.soft = SoftState(0, Role.FOLLOWER)
        self.seen = Seen(self)
        self._restored_index = 0
        self._applies_held: list[Message] = []
        self._pending: dict[int, tuple[int, int]] = {}
        self._pending_id = 0
        self._ticks = 0
        self._proposals: list[ClientFrame] = []
        self._queries: list[ClientFrame] = []
        self._reads = PendingReads(self.node_id, self.incarnation)
        self._answerable: deque[tuple[int, list[ClientFrame]]] = deque()
        self._flush_waits = False
        self._clock_ms = 0
        self._arrivals_us: dict[str, int] = {}

    # --- events ---------------------------------------------------------------------------------------------------

    def soon(self, delay_us: int, label: str, action: Action, *arguments: Any) -> None:
        """Let something happen in this process, unless it is gone by then."""
        self.world.schedule.after(delay_us, label, self.node_id, self.run, label, action, arguments)

    def run(self, label: str, action: Action, arguments: tuple[Any, ...]) -> None:
        """One event: do it, perform what comes of it, and check everything that it may have broken."""
        if not self.alive:
            return
        world = self.world
        if self._held is not None:
            self._held.append((label, action, arguments))
            return
        action(*arguments)
        batching = world.plan.strength("batching") if world.faulty else 0.0
        if not batching or self.rng.random() >= batching:
            self.flush()
        elif not self._flush_waits:
            self._flush_waits = True
            self.soon(self.rng.randrange(2 * world.plan.delay_us), "flush", self.flush)
        world.checks.after_event(self)

    def pause(self) -> None:
        """The process stands still; what happens to it waits in order, as in its sockets and mailboxes."""
        if self._held is None:
            self._held = []

    def resume(self) -> None:
        """The process goes on."""
        held, self._held = self._held or [], None
        for label, action, arguments in held:
            self.run(label, action, arguments)

    def tick(self) -> None:
        """The clock of this node goes on, at its own rate."""
        self.soon(round(TICK_US * self.world.nemesis.clock_rate(self.node_id)), "tick", self.tick)
        self._ticks += 1
        self.raw.tick()
        lost = self._reads.give_up(before_tick=self._ticks - self.world.plan.raft.election_ticks)
        self._refuse(lost, busy=False)

    def receive(self, message: Message) -> None:
        """A message of another node."""
        self.world.coverage.step(self.soft.role, message.type)
        forwarded = message.type == MessageType.PROP and self.soft.role is Role.LEADER
        if message.type == MessageType.READ_INDEX and not self._may_read():
            return
        with suppress(ProposalDropped, StepPeerNotFoundError, StepLocalMessageError):
            self.raw.step(self._restamped(message) if forwarded else message)

    def take(self, client: int, request: int, kind: int, rest: bytes) -> None:
        """A client's frame, as the gateway takes it."""
        leader_id = self.soft.leader_id
        if leader_id == 0:
            self.world.answer(self.node_id, client, request, replies.encode_retry(0))
            return
        self._pending_id += 1
        self._pending[self._pending_id] = (client, request)
        frame = ClientFrame(self._pending_id, bytes((kind,)) + rest)
        (self._proposals if kind in LOGGED_KINDS else self._queries).append(frame)

    def synced(self) -> None:
        """The write under way is durable: its responses may leave."""
        done = self.storage.finish()
        messages = [work for work in done if isinstance(work, Message)]
        for work in done:
            if isinstance(work, Compaction):
                self.soon(self._hop("appended"), "compacted", self._compact, work.snapshot)
        for message in messages:
            for response in message.responses:
                if response.to != self.node_id:
                    self.world.network.send(self, response)
        self.soon(self._hop("appended"), "appended", self._on_appended, messages)
        self._write()

    def apply(self, message: Message) -> None:
        """The application's turn: committed entries, then the reads that waited for them."""
        host = self.host
        for entry in message.entries:
            if entry.index > host.applied_index:  # A snapshot may have overtaken them.
                answered = host.apply(entry, origin_incarnation=self.incarnation)
                self.world.checks.applied(self, entry)
                for pending_id, body in answered:
                    self._answer(pending_id, body)
        self.soon(self._hop("applied"), "applied", self._on_applied, message)
        self._answer_reads()

    def take_snapshot(self) -> None:
        """Begin to replace the log by a snapshot, where application and core stand at the same index."""
        index = self.host.applied_index
        if index != self.raw.raft.log.applied or index <= self.log.snapshot_index:
            return
        if self._known_membership_index() > index:
            return
        conf_state = self.raw.raft.tracker.conf_state()
        snapshot = Snapshot(index, self.host.applied_term, conf_state, self.host.snapshot())
        self.world.checks.snapshot_made(self, snapshot)
        self.storage.waiting.append(Compaction(snapshot))
        self.world.coverage.count("snapshot_taken")

    # --- the effects ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Propose and read what came, then perform every `Ready`."""
        self._flush_waits = False
        if self._proposals:
            self._propose()
        if self._queries and self._may_read():
            waiting, self._queries = self._queries, []
            self.raw.read_index(self._reads.begin(waiting, self._ticks))
        for _ in range(_READIES_MAX):
            if not self.raw.has_ready():
                break
            self._perform(self.raw.ready())
        else:
            raise Violation("storm", f"node {self.node_id} has something to do for ever")
        self._write()

    def _may_read(self) -> bool:
        """Whether a leader of a single voter may be asked: the core answers such reads at once, without a round.

        That is right only for a leader that is this voter, and has committed in its term: the commit index it started
        with may lie below what was confirmed before, since it is not synced for its own sake.
        """
        raft = self.raw.raft
        if raft.role is not Role.LEADER or not raft.tracker.is_singleton:
            return True
        return self.node_id in raft.tracker.voter_ids and raft.has_committed_in_term()

    def _perform(self, ready: Ready) -> None:
        if ready.soft_state is not None:
            self._on_soft_state(ready.soft_state)
        for message in hold_vote_requests(ready.messages):
            if message.to == APPEND_THREAD:
                self.world.checks.appending(self, message.entries)
                self.storage.waiting.append(message)
            elif message.to == APPLY_THREAD:
                changes = [entry.index for entry in message.entries if entry.type is not EntryType.NORMAL]
                if changes:
                    self.storage.want_commit(changes[-1])
                self.soon(self._hop("apply"), "apply", self.apply, message)
            else:
                self.world.network.send(self, message)
        for read in ready.read_states:
            confirmed = self._reads.confirm(read.context)
            if confirmed:
                self._answerable.append((read.index, confirmed))
        if ready.read_states:
            self._answer_reads()

    def _write(self) -> None:
        if self.storage.begin():
            self._meet(self.doom, 100)
            self.doom = None
            self.soon(self.world.nemesis.sync_us(self.node_id), "synced", self.synced)

    def _meet(self, doom: Callable[[], None] | None, within_us: int) -> None:
        """The moment has come that a crash was waiting for."""
        if doom is not None and self.world.faulty:
            self.world.schedule.after(self.rng.randrange(within_us), "doom", self.node_id, doom)

    def _hop(self, mailbox: str) -> int:
        """How long the next message to a mailbox takes; those of one mailbox stay in order."""
        now_us = self.world.schedule.now_us
        arrival_us = now_us + _HOP_US + self.rng.randrange(self.world.plan.disk_us)
        arrival_us = self._arrivals_us[mailbox] = max(arrival_us, self._arrivals_us.get(mailbox, 0))
        return arrival_us - now_us

    def _on_soft_state(self, soft: SoftState) -> None:
        self.world.coverage.role(self.soft.role, soft.role)
        if soft.role is Role.LEADER:
            self._meet(self.doom_as_leader, 8 * self.world.plan.delay_us)
            self.doom_as_leader = None
        moved = soft.leader_id != self.soft.leader_id
        self.soft = soft
        self.host.leader_id = soft.leader_id
        if moved:
            self._refuse(list(self._pending), busy=False)

    def _propose(self) -> None:
        waiting, self._proposals = self._proposals, []
        payloads = combine(
            waiting,
            bytes_max=self.world.plan.limits.proposal_bytes_max,
            origin_node=self.node_id,
            origin_incarnation=self.incarnation,
            now_ms=self._stamp_ms(),
        )
        for payload, pending_ids in payloads:
            try:
                self.raw.propose(payload)
            except ProposalDropped:
                self._refuse(pending_ids, busy=self.soft.role is Role.LEADER)

    def _stamp_ms(self) -> int:
        self._clock_ms = max(self._clock_ms, self.world.nemesis.wall_clock_ms(self.node_id))
        return self._clock_ms

    def _restamped(self, message: Message) -> Message:
        now_ms = self._stamp_ms()
        entries = tuple(
            entry._replace(data=stamp_batch(entry.data, now_ms))
            if entry.data and entry.type is EntryType.NORMAL
            else entry
            for entry in message.entries
        )
        return message._replace(entries=entries)

    # --- acknowledgements of the own threads ----------------------------------------------------------------------

    def _on_appended(self, messages: list[Message]) -> None:
        for message in messages:
            if message.snapshot is not None:
                self._restore(message.snapshot)
            if message.entries:
                self.log.append(message.entries)
            self._step_own(message)
        self._release_applies()

    def _restore(self, snapshot: Snapshot) -> None:
        self.log.apply_snapshot(snapshot)
        self.host.restore(snapshot.data)
        self._restored_index = snapshot.index
        self.world.checks.restored(self)
        self.world.coverage.count("snapshot_restored")

    def _on_applied(self, message: Message) -> None:
        self._applies_held.append(message)
        self._release_applies()

    def _release_applies(self) -> None:
        """A membership change counts only once the disk knows that it is committed, see `StorageThread`."""
        while self._applies_held:
            message = self._applies_held[0]
            changes = [entry for entry in message.entries if entry.type is not EntryType.NORMAL]
            durable = self.disk.durable
            if changes and changes[-1].index > max(durable.hard_state.commit, durable.snapshot.index):
                return
            del self._applies_held[0]
            for entry in changes:
                self._change_membership(entry)
            self._step_own(message)

    def _change_membership(self, entry: Entry) -> None:
        if entry.index <= self._known_membership_index():
            return  # The snapshot that overtook this entry brought a later membership.
        self.world.coverage.count("membership_change")
        try:
            self.raw.apply_conf_change(decode_conf_change(entry))
        except ConfChangeError:
            self.world.coverage.count("membership_change_refused")

    def _known_membership_index(self) -> int:
        received = self.raw.raft.log.unstable.snapshot
        return max(self._restored_index, received.index if received is not None else 0)

    def _step_own(self, message: Message) -> None:
        for response in message.responses:
            if response.to == self.node_id:
                # A node that is no member any more still acknowledges to itself.
                with suppress(StepPeerNotFoundError):
                    self.raw.step(response)

    def _compact(self, snapshot: Snapshot) -> None:
        if snapshot.index <= self.log.snapshot_index:
            return  # A received one came in between.
        self.log.create_snapshot(snapshot.index, snapshot.conf_state, snapshot.data)
        trailing = self.rng.choice((0, 0, 2, 20))
        if snapshot.index - trailing >= self.log.first_index():
            self.log.compact(snapshot.index - trailing)

    # --- clients --------------------------------------------------------------------------------------------------

    def _answer_reads(self) -> None:
        applied = self.host.applied_index
        while self._answerable and self._answerable[0][0] <= applied:
            for frame in self._answerable.popleft()[1]:
                self._answer(frame.pending_id, self.host.query(applied, memoryview(frame.payload)[1:]))

    def _refuse(self, pending_ids: list[int], *, busy: bool) -> None:
        leader_id = self.soft.leader_id
        body = replies.encode_busy(leader_id, BUSY_RETRY_AFTER_MS) if busy else replies.encode_retry(leader_id)
        for pending_id in pending_ids:
            self._answer(pending_id, body)

    def _answer(self, pending_id: int, body: bytes) -> None:
        origin = self._pending.pop(pending_id, None)
        if origin is not None:
            self.world.answer(self.node_id, *origin, body)
