"""The only door to the core: input goes in by method calls, effects come out as one `Ready`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from raftactors.core.confchange_wire import conf_change_entry
from raftactors.core.config import RaftConfig
from raftactors.core.invariants import invariant
from raftactors.core.messages import Message, MessageType
from raftactors.core.raft import Raft
from raftactors.core.ready import Ready
from raftactors.core.sizes import entries_size
from raftactors.core.status import BasicStatus, Status, basic_status, full_status
from raftactors.core.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    EMPTY_HARD_STATE,
    NONE,
    ConfChange,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Role,
    Snapshot,
    SoftState,
)
from raftactors.errors import ConfigError, ProposalDropped, StepLocalMessageError, StepPeerNotFoundError

_LOCAL = frozenset(
    map(
        int,
        (
            MessageType.HUP,
            MessageType.BEAT,
            MessageType.UNREACHABLE,
            MessageType.SNAP_STATUS,
            MessageType.CHECK_QUORUM,
            MessageType.STORAGE_APPEND,
            MessageType.STORAGE_APPEND_RESP,
            MessageType.STORAGE_APPLY,
            MessageType.STORAGE_APPLY_RESP,
        ),
    )
)
"""Kinds that only this node, or its own storage and application, may produce."""

_RESPONSES = frozenset(
    map(
        int,
        (
            MessageType.APP_RESP,
            MessageType.VOTE_RESP,
            MessageType.HEARTBEAT_RESP,
            MessageType.READ_INDEX_RESP,
            MessageType.PRE_VOTE_RESP,
        ),
    )
)
"""Kinds that only a member may send."""

_THREADS = (APPEND_THREAD, APPLY_THREAD)


class RawNode:
    """One Raft node without threads, clocks or I/O (thesis chapters 3, 4, 6).

    Use: call the input methods in any order, from one thread; while `has_ready()`, take `ready()` and perform it.
    Without asynchronous storage writes `advance()` must follow each `ready()` before the next one. With them the
    responses that the messages to the local threads carry are handed back through `step()` instead.

    `raft` is the state behind the door, to be looked at by status views and tests.
    """

    def __init__(self, config: RaftConfig) -> None:
        """Start from what the configuration's storage holds. Raises ConfChangeError for an impossible membership."""
        self.raft = Raft(config)
        self._async_storage_writes = config.async_storage_writes
        self._apply_unstable = not config.async_storage_writes
        self._soft_state = self.raft.soft_state()
        self._hard_state = self.raft.hard_state()
        self._on_advance: list[Message] | None = None

    def bootstrap(self, peer_ids: Sequence[int]) -> None:
        """Begin a new cluster with these voters, the same on each of them: term 1, one committed entry a voter.

        Raises ConfigError without voters or if the storage holds entries already.
        """
        raft = self.raft
        if not peer_ids:
            raise ConfigError("bootstrap needs at least one peer")
        if raft.log.last_index():
            raise ConfigError(
                f"bootstrap needs an empty log; this one ends at {raft.log.last_index()}: restart instead"
            )
        # What is written next must be written whole, whatever the storage said before.
        self._hard_state = EMPTY_HARD_STATE
        raft.become_follower(1, NONE)
        changes = [ConfChange(ConfChangeType.ADD_NODE, peer_id) for peer_id in peer_ids]
        entries = []
        for index, change in enumerate(changes, 1):
            unnumbered = conf_change_entry(change)
            entries.append(Entry(1, index, unnumbered.data, unnumbered.type))
        raft.log.append(entries)
        raft.log.commit_to(len(entries))
        # The entries are applied again, with no effect, when they are handed out; until then the node knows its
        # peers already and may campaign.
        for change in changes:
            raft.apply_conf_change(change)

    # --- input ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Advance the logical clock by one tick."""
        self.raft.tick()

    def campaign(self) -> None:
        """Start an election now, unless this node leads or may not."""
        self.raft.step(Message(MessageType.HUP))

    def propose(self, data: bytes) -> None:
        """Offer a command. Raises ProposalDropped if it was neither appended nor forwarded."""
        raft = self.raft
        raft.step(Message(MessageType.PROP, sender=raft.node_id, entries=(Entry(0, 0, data),)))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> None:
        """Offer a membership change. Raises ProposalDropped.

        A leader that may not make the change now appends an empty entry in its place.
        """
        self.raft.step(Message(MessageType.PROP, entries=(conf_change_entry(change),)))

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Carry out a change that was handed out as committed; returns the new membership.

        Raises ConfChangeError, with no effect, if the change is impossible; the same on every node.
        """
        return self.raft.apply_conf_change(change)

    def step(self, message: Message) -> None:
        """Take a message from a peer, or a response of the local storage threads.

        Raises StepLocalMessageError for a kind that no peer may send, StepPeerNotFoundError for a response of a node
        that is no member, and ProposalDropped for a proposal that went nowhere.
        """
        kind = message.type
        if message.sender not in _THREADS:
            if kind in _LOCAL:
                raise StepLocalMessageError(f"{kind.name} from node {message.sender}: only the node itself may send it")
            if kind in _RESPONSES and message.sender not in self.raft.tracker.progress:
                raise StepPeerNotFoundError(f"{kind.name} from node {message.sender}, which is no member")
        self.raft.step(message)

    def read_index(self, context: bytes) -> None:
        """Ask for a linearizable read; a ReadState with this context follows, or never: then ask again."""
        self.raft.step(Message(MessageType.READ_INDEX, entries=(Entry(0, 0, context),)))

    def transfer_leader(self, node_id: int) -> None:
        """Ask the leader to hand over to `node_id`; it gives up after an election timeout."""
        self.raft.step(Message(MessageType.TRANSFER_LEADER, sender=node_id))

    def abstain(self, abstains: bool) -> None:
        """Stand for no election while this is set; the node follows and votes as ever."""
        self.raft.abstains = abstains

    def step_down(self) -> None:
        """Give leadership up within the term, as after a failed check of the quorum; nothing happens to others."""
        if self.raft.role is Role.LEADER:
            self.raft.become_follower(self.raft.term, NONE)

    def forget_leader(self) -> None:
        """Let a follower vote again in this term although it knows a leader, which the caller knows to be gone."""
        self.raft.step(Message(MessageType.FORGET_LEADER))

    def report_unreachable(self, node_id: int) -> None:
        """The last message to `node_id` could not be sent."""
        self.raft.step(Message(MessageType.UNREACHABLE, sender=node_id))

    def report_snapshot(self, node_id: int, ok: bool) -> None:
        """The snapshot for `node_id` has arrived, or could not be sent."""
        self.raft.step(Message(MessageType.SNAP_STATUS, sender=node_id, reject=not ok))

    # --- output ---------------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether there is anything to do."""
        raft = self.raft
        unstable = raft.log.unstable
        return bool(
            raft.messages
            or raft.messages_after_append
            or raft.read_states
            or unstable.has_next_entries()
            or raft.log.has_next_committed(self._apply_unstable)
            or unstable.next_snapshot() is not None
            or self._changed_hard_state() is not None
            or self._changed_soft_state() is not None
        )

    def ready(self) -> Ready:
        """Take everything there is to do; it counts as handed out. May be called when there is nothing."""
        invariant(self._on_advance is None, "ready was taken a second time without advance")
        raft = self.raft
        log = raft.log
        soft_state = self._changed_soft_state()
        hard_state = self._changed_hard_state()
        entries = log.unstable.next_entries()
        committed = log.next_committed(self._apply_unstable)
        snapshot = log.unstable.next_snapshot()
        must_sync = bool(entries) or (
            hard_state is not None
            and hard_state[:2] != self._hard_state[:2]  # Term or vote; commit can be found again.
        )
        if self._async_storage_writes:
            messages = raft.messages
            if entries or hard_state is not None or snapshot is not None or raft.messages_after_append:
                messages.append(self._append_work(entries, hard_state, snapshot))
            if committed:
                messages.append(self._apply_work(committed))
        else:
            messages = self._hold_back_own(snapshot, committed)
        ready = Ready(
            soft_state,
            hard_state,
            tuple(raft.read_states),
            entries,
            snapshot,
            committed,
            tuple(messages),
            must_sync,
        )
        self._accept(ready)
        return ready

    def advance(self) -> None:
        """The last `ready()` has been performed. Not used with asynchronous storage writes."""
        invariant(not self._async_storage_writes, "advance is not called with asynchronous storage writes")
        acknowledgements, self._on_advance = self._on_advance or (), None
        for message in acknowledgements:
            with suppress(ProposalDropped):
                self.raft.step(message)

    def status(self) -> Status:
        """Everything there is to see."""
        return full_status(self.raft)

    def basic_status(self) -> BasicStatus:
        """What is cheap to see."""
        return basic_status(self.raft)

    def _changed_hard_state(self) -> HardState | None:
        """The hard state if it differs from the one handed out last; one that is all zero need not be stored."""
        raft, known = self.raft, self._hard_state
        # Nearly always nothing has changed: look before a record is made of it.
        if raft.log.committed == known.commit and raft.term == known.term and raft.vote == known.vote:
            return None
        hard_state = raft.hard_state()
        return None if hard_state in (known, EMPTY_HARD_STATE) else hard_state

    def _changed_soft_state(self) -> SoftState | None:
        """The soft state if it differs from the one handed out last."""
        raft, known = self.raft, self._soft_state
        if raft.role is known.role and raft.leader_id == known.leader_id:
            return None
        return raft.soft_state()

    def _accept(self, ready: Ready) -> None:
        raft = self.raft
        if ready.soft_state is not None:
            self._soft_state = ready.soft_state
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state
        if raft.read_states:
            raft.read_states = []
        raft.messages = []
        raft.messages_after_append = []
        raft.log.unstable.accept_in_progress()
        committed = ready.committed
        if committed:
            raft.log.accept_applying(committed[-1].index, entries_size(committed), self._apply_unstable)

    def _hold_back_own(self, snapshot: Snapshot | None, committed: tuple[Entry, ...]) -> list[Message]:
        """The messages to send; what acknowledges this node's own writes to itself waits for `advance`."""
        raft = self.raft
        messages = raft.messages
        own: list[Message] = []
        for message in raft.messages_after_append:
            (own if message.to == raft.node_id else messages).append(message)
        if raft.log.unstable.entries or snapshot is not None:
            own.append(self._append_response(snapshot))
        if committed:
            own.append(self._apply_response(committed))
        self._on_advance = own
        return messages

    def _append_work(
        self, entries: tuple[Entry, ...], hard_state: HardState | None, snapshot: Snapshot | None
    ) -> Message:
        raft = self.raft
        term, vote, commit = hard_state or EMPTY_HARD_STATE
        responses = raft.messages_after_append
        if raft.log.unstable.entries or snapshot is not None:
            responses.append(self._append_response(snapshot))
        return Message(
            MessageType.STORAGE_APPEND,
            APPEND_THREAD,
            raft.node_id,
            term,
            entries=entries,
            commit=commit,
            vote=vote,
            snapshot=snapshot,
            responses=tuple(responses),
        )

    def _append_response(self, snapshot: Snapshot | None) -> Message:
        """The acknowledgement that everything appended so far is durable.

        It names the term in which it was asked for. An acknowledgement of an earlier term may speak of entries that
        were replaced, and replaced back, since: it is ignored, and the next one covers the same entries again.
        """
        raft = self.raft
        last_index = last_term = 0
        if raft.log.unstable.entries:
            last_term, last_index = raft.log.unstable.entries[-1][:2]
        return Message(
            MessageType.STORAGE_APPEND_RESP,
            raft.node_id,
            APPEND_THREAD,
            raft.term,
            last_term,
            last_index,
            snapshot=snapshot,
        )

    def _apply_work(self, committed: tuple[Entry, ...]) -> Message:
        return Message(
            MessageType.STORAGE_APPLY,
            APPLY_THREAD,
            self.raft.node_id,
            entries=committed,
            responses=(self._apply_response(committed),),
        )

    def _apply_response(self, committed: tuple[Entry, ...]) -> Message:
        # Committed entries stay what they are in every term, so this names none.
        return Message(MessageType.STORAGE_APPLY_RESP, self.raft.node_id, APPLY_THREAD, entries=committed)
