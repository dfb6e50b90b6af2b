"""The Raft state machine of one node: its state, its transitions, and the rules about terms.

Everything is a pure function of the inputs, `step` and `tick`. Outputs gather in `messages`, `messages_after_append`
(those that promise something durable, and must not leave before it is), `read_states` and the log; `RawNode`
collects them. What one role does with a message stands in the module of that role.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raftactors.core import candidate, follower, leader, membership
from raftactors.core.confchange import as_v2
from raftactors.core.config import RaftConfig
from raftactors.core.election import CampaignKind, handle_hup, handle_vote_request
from raftactors.core.invariants import Witness, check_invariants, invariant
from raftactors.core.log import RaftLog
from raftactors.core.messages import Message, MessageType
from raftactors.core.read_only import ReadOnlyQueue
from raftactors.core.sizes import entries_size, payloads_size
from raftactors.core.terms import answer_stale, meet_higher_term
from raftactors.core.tracker import Tracker
from raftactors.core.types import (
    NONE,
    UNLIMITED,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    ReadState,
    Role,
    SoftState,
)
from raftactors.errors import ProposalDropped

if TYPE_CHECKING:
    Handler = Callable[["Raft", Message], None]


class Raft:
    """One node's Raft. Not to be used directly: `RawNode` is the door.

    `leader_id`, `transferee_id` and `vote` are NONE if there is none. `pending_conf_index`: a leader takes no further
    membership change on while this exceeds the applied index. `uncommitted_bytes`: a leader's estimate of the payload
    bytes that are not yet applied.
    """

    def __init__(self, config: RaftConfig) -> None:
        self.config = config
        self.node_id = config.node_id
        self.logger = config.logger
        self.log = RaftLog(
            config.storage,
            config.logger,
            config.committed_bytes_per_ready_max or config.bytes_per_message_max,
        )
        self.tracker = Tracker(config.inflight_messages_max, config.inflight_bytes_max or UNLIMITED)
        self.uncommitted_bytes_max = config.uncommitted_bytes_max or UNLIMITED
        self.term = 0
        self.vote = NONE
        self.leader_id = NONE
        self.role = Role.FOLLOWER
        self.transferee_id = NONE
        self.is_learner = False
        self.abstains = False
        self.election_elapsed_ticks = 0
        self.heartbeat_elapsed_ticks = 0
        self.randomized_election_timeout_ticks = config.election_ticks
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.messages: list[Message] = []
        self.messages_after_append: list[Message] = []
        self.read_states: list[ReadState] = []
        self.read_only = ReadOnlyQueue()
        self.postponed_reads: list[Message] = []
        self.witness = Witness()
        self._handlers = _HANDLERS[Role.FOLLOWER]
        self._load()

    def _load(self) -> None:
        """Take over what storage holds, and start as a follower (feature row A5)."""
        hard_state, conf_state = self.config.storage.initial_state()
        membership.install(self, conf_state)
        log = self.log
        invariant(
            hard_state.commit == 0 or log.committed <= hard_state.commit <= log.last_index(),
            "node %d: stored commit index %d lies outside of the stored log [%d, %d]",
            self.node_id,
            hard_state.commit,
            log.committed,
            log.last_index(),
        )
        log.committed = max(log.committed, hard_state.commit)
        self.term, self.vote = hard_state.term, hard_state.vote
        if self.config.applied > 0:
            log.applied_to(self.config.applied, 0)
        self.become_follower(self.term, NONE)
        self.logger.info(
            "node %d starts at term %d: commit %d, applied %d, last entry %d, %s",
            self.node_id,
            self.term,
            log.committed,
            log.applied,
            log.last_index(),
            self.tracker.conf_state(),
        )

    # --- views ----------------------------------------------------------------------------------------------------

    def soft_state(self) -> SoftState:
        """Leader and role."""
        return SoftState(self.leader_id, self.role)

    def hard_state(self) -> HardState:
        """Term, vote and commit index."""
        return HardState(self.term, self.vote, self.log.committed)

    def promotable(self) -> bool:
        """Whether this node may campaign: it is a voter, does not abstain, and has stored every received snapshot."""
        own = self.tracker.progress.get(self.node_id)
        return own is not None and not own.is_learner and not self.abstains and self.log.unstable.snapshot is None

    def has_committed_in_term(self) -> bool:
        """Whether an entry of the current term is committed, so that a leader knows all that is."""
        return self.log.try_term(self.log.committed) == self.term

    # --- input ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Advance the logical clock by one tick; the only notion of time here."""
        if self.role is Role.LEADER:
            self._tick_leader()
        else:
            self.election_elapsed_ticks += 1
            if self.election_elapsed_ticks >= self.randomized_election_timeout_ticks and self.promotable():
                self.election_elapsed_ticks = 0
                self.step(Message(MessageType.HUP, sender=self.node_id))
        check_invariants(self)

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed_ticks += 1
        self.election_elapsed_ticks += 1
        if self.election_elapsed_ticks >= self.config.election_ticks:
            self.election_elapsed_ticks = 0
            if self.config.check_quorum:
                self.step(Message(MessageType.CHECK_QUORUM, sender=self.node_id))
            if self.role is Role.LEADER and self.transferee_id != NONE:
                self.logger.info(
                    "node %d gives up the transfer to %d: it took too long", self.node_id, self.transferee_id
                )
                self.abort_transfer()
        if self.role is Role.LEADER and self.heartbeat_elapsed_ticks >= self.config.heartbeat_ticks:
            self.heartbeat_elapsed_ticks = 0
            self.step(Message(MessageType.BEAT, sender=self.node_id))

    def step(self, message: Message) -> None:
        """Apply one message. Stale or odd input is dropped; raises ProposalDropped for a proposal with no effect.

        Local messages have term 0 and skip the rules about terms.
        """
        term = message.term
        if term == self.term or not term:
            self._handlers[message.type](self, message)
        elif term < self.term:
            answer_stale(self, message)
        elif meet_higher_term(self, message):
            self._handlers[message.type](self, message)
        check_invariants(self)

    # --- transitions ----------------------------------------------------------------------------------------------

    def become_follower(self, term: int, leader_id: int) -> None:
        """Follow `leader_id` (NONE: nobody is known yet) in `term`, which may be the present one."""
        self._reset(term)
        self._enter(Role.FOLLOWER)
        self.leader_id = leader_id
        self.logger.info("node %d became follower at term %d, leader %d", self.node_id, self.term, leader_id)

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won. Neither term nor vote nor timeout changes (thesis section 9.6)."""
        invariant(self.role is not Role.LEADER, "a leader cannot become a pre-candidate")
        self._enter(Role.PRE_CANDIDATE)
        self.tracker.votes = {}
        self.leader_id = NONE
        self.logger.info("node %d became pre-candidate at term %d", self.node_id, self.term)

    def become_candidate(self) -> None:
        """Start an election in the next term (thesis section 3.4)."""
        invariant(self.role is not Role.LEADER, "a leader cannot become a candidate")
        self._reset(self.term + 1)
        self._enter(Role.CANDIDATE)
        self.vote = self.node_id
        self.logger.info("node %d became candidate at term %d", self.node_id, self.term)

    def become_leader(self) -> None:
        """Lead the present term, and append its first, empty entry (thesis sections 3.4 and 6.4)."""
        invariant(self.role is not Role.FOLLOWER, "a follower cannot become leader without an election")
        self._reset(self.term)
        self._enter(Role.LEADER)
        self.leader_id = self.node_id
        own = self.tracker.progress[self.node_id]
        own.enter_replicate()
        own.recent_active = True
        # The uncommitted tail may hold a membership change; rather than look, wait until all of it is applied.
        self.pending_conf_index = self.log.last_index()
        appended = self.append_entries((Entry(0, 0, None),))
        invariant(appended, "the empty entry of a new leader was refused")
        self.logger.info("node %d became leader at term %d", self.node_id, self.term)

    def _enter(self, role: Role) -> None:
        self.role = role
        self._handlers = _HANDLERS[role]

    def _reset(self, term: int) -> None:
        """What every role but pre-candidate starts from."""
        if term != self.term:
            self.term = term
            self.vote = NONE
        self.leader_id = NONE
        self.election_elapsed_ticks = 0
        self.heartbeat_elapsed_ticks = 0
        self.randomized_election_timeout_ticks = self._draw_election_timeout()
        self.abort_transfer()
        self.tracker.restart_progress(self.node_id, self.log.last_index())
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.read_only = ReadOnlyQueue()

    def _draw_election_timeout(self) -> int:
        ticks = self.config.election_ticks
        jitter = self.config.election_jitter
        return ticks + (self.config.random.randrange(ticks) if jitter is None else jitter(self.node_id, self.term))

    def abort_transfer(self) -> None:
        """Forget the leadership transfer under way, if any; proposals are taken again."""
        self.transferee_id = NONE

    # --- what the roles share -------------------------------------------------------------------------------------

    def respond_after_append(self, message: Message) -> None:
        """Queue a message that may leave only when everything appended so far is durable."""
        self.messages_after_append.append(message)

    def append_entries(self, entries: tuple[Entry, ...]) -> bool:
        """Append proposals to a leader's own log; returns False if they would exceed the limit on uncommitted bytes.

        The leader counts itself only when its storage has acknowledged them: its acknowledgement waits like
        everybody's.
        """
        size = payloads_size(entries)
        # Payloads of no size always pass, or no leader could start; so does whatever comes first.
        if size and self.uncommitted_bytes and self.uncommitted_bytes + size > self.uncommitted_bytes_max:
            self.logger.debug(
                "node %d is over its limit of uncommitted bytes, %d", self.node_id, self.uncommitted_bytes
            )
            return False
        self.uncommitted_bytes += size
        index, term = self.log.last_index(), self.term
        numbered = []
        for entry in entries:
            index += 1
            numbered.append(Entry(term, index, entry.data, entry.type))
        self.log.append(numbered)
        self.messages_after_append.append(
            Message(MessageType.APP_RESP, self.node_id, self.node_id, self.term, index=index)
        )
        return True

    def maybe_commit(self) -> bool:
        """Commit what a quorum holds, if it ends in the present term (Raft paper section 5.4.2)."""
        index = self.tracker.committed_index()
        log = self.log
        if index <= log.committed or not log.matches(self.term, index):
            return False
        log.commit_to(index)
        return True

    def applied_to(self, index: int, encoded_bytes: int) -> None:
        """The application is at `index`; leave an automatic joint configuration that it has reached."""
        log = self.log
        log.applied_to(max(index, log.applied), encoded_bytes)
        if self.role is Role.LEADER and self.tracker.conf_state().auto_leave and log.applied >= self.pending_conf_index:
            leave = Entry(0, 0, None, EntryType.CONF_CHANGE_V2)
            try:
                self.step(Message(MessageType.PROP, entries=(leave,)))
                self.logger.info("node %d proposes to leave the joint configuration", self.node_id)
            except ProposalDropped as error:
                self.logger.debug("node %d cannot leave the joint configuration yet: %s", self.node_id, error)

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Carry out a committed change. Raises ConfChangeError, with no effect, if it is impossible."""
        conf_state = membership.apply(self, as_v2(change))
        check_invariants(self)
        return conf_state

    def handle_storage_append_response(self, message: Message) -> None:
        """Storage holds entries up to (index, log term), or a snapshot, or both."""
        if message.index:
            self.log.stable_to(message.log_term, message.index)
        if message.snapshot is not None:
            self.snapshot_stored(message.snapshot.index)

    def handle_storage_apply_response(self, message: Message) -> None:
        """The application has applied the message's entries."""
        entries = message.entries
        if entries:
            self.applied_to(entries[-1].index, entries_size(entries))
            self.uncommitted_bytes = max(self.uncommitted_bytes - payloads_size(entries), 0)

    def snapshot_stored(self, index: int) -> None:
        """Storage holds the received snapshot, and with it the application is at `index`."""
        self.log.unstable.stable_snapshot_to(index)
        self.applied_to(index, 0)


def _ignore(raft: Raft, message: Message) -> None:
    """Messages that mean nothing to the present role."""
    raft.logger.debug(
        "node %d, a %s, ignores %s from %d", raft.node_id, raft.role.value, message.type.name, message.sender
    )


_COMMON: dict[MessageType, Handler] = {
    MessageType.HUP: lambda raft, _: handle_hup(
        raft, CampaignKind.PRE_ELECTION if raft.config.pre_vote else CampaignKind.ELECTION
    ),
    MessageType.VOTE: handle_vote_request,
    MessageType.PRE_VOTE: handle_vote_request,
    MessageType.STORAGE_APPEND_RESP: Raft.handle_storage_append_response,
    MessageType.STORAGE_APPLY_RESP: Raft.handle_storage_apply_response,
}


def _table(role_handlers: dict[MessageType, Handler]) -> tuple[Handler, ...]:
    handlers = {**role_handlers, **_COMMON}
    return tuple(handlers.get(kind, _ignore) for kind in sorted(MessageType))


_HANDLERS: dict[Role, tuple[Handler, ...]] = {
    Role.FOLLOWER: _table(follower.HANDLERS),
    Role.PRE_CANDIDATE: _table(candidate.PRE_CANDIDATE_HANDLERS),
    Role.CANDIDATE: _table(candidate.CANDIDATE_HANDLERS),
    Role.LEADER: _table(leader.HANDLERS),
}
"""What each role does with each kind of message; the table is complete, its rows are indexed by MessageType."""
