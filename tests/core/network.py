"""A cluster of raw nodes in one thread: messages travel when a test says so, links can be cut, disks kept waiting."""

from __future__ import annotations

import logging
import random
from collections import deque
from typing import Any

from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.config import RaftConfig
from raftactors.core.invariants import check_invariants_fully
from raftactors.core.messages import Message, MessageType
from raftactors.core.raft import Raft
from raftactors.core.raw_node import RawNode
from raftactors.core.ready import Ready
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import (
    ConfState,
    Entry,
    EntryType,
    HardState,
    ReadState,
    Role,
    Snapshot,
)
from raftactors.errors import (
    ConfChangeError,
    ProposalDropped,
    SnapshotOutOfDateError,
    StepPeerNotFoundError,
)

QUIET = logging.getLogger("raftactors.tests.core")
QUIET.setLevel(logging.CRITICAL)

BASE = Snapshot(index=1, term=1, conf_state=ConfState())
"""Every test cluster starts behind a snapshot at this index, so that nobody has to be bootstrapped."""


def base_storage(voters: tuple[int, ...], learners: tuple[int, ...] = ()) -> MemoryStorage:
    """A storage as it stands after the first snapshot of a cluster with these members."""
    storage = MemoryStorage()
    storage.apply_snapshot(BASE._replace(conf_state=ConfState(voters=voters, learners=learners)))
    storage.set_hard_state(HardState(term=1, commit=BASE.index))
    return storage


def make_config(node_id: int, storage: MemoryStorage, **overrides: Any) -> RaftConfig:
    """A configuration with an election timeout of 10 ticks and no limits."""
    settings: dict[str, Any] = {
        "node_id": node_id,
        "election_ticks": 10,
        "heartbeat_ticks": 1,
        "storage": storage,
        "random": random.Random(node_id),
        "logger": QUIET,
    }
    return RaftConfig(**{**settings, **overrides})


def make_node(
    node_id: int = 1, voters: tuple[int, ...] = (1, 2, 3), learners: tuple[int, ...] = (), **overrides: Any
) -> RawNode:
    """One node of a cluster that exists only in its configuration."""
    return RawNode(make_config(node_id, base_storage(voters, learners), **overrides))


class Member:
    """A raw node with its storage, what it has applied, and its queues."""

    def __init__(self, node_id: int, storage: MemoryStorage, **overrides: Any) -> None:
        self.config = make_config(node_id, storage, **overrides)
        self.storage = storage
        self.append_work: deque[Message] = deque()
        self.applied: list[Entry] = []
        self.conf_states: list[ConfState] = []
        self.conf_state = storage.snapshot().conf_state
        self.read_states: list[ReadState] = []
        self.raw = RawNode(self.config)

    @property
    def raft(self) -> Raft:
        return self.raw.raft

    def persist(self, hard_state: HardState | None, snapshot: Snapshot | None, entries: tuple[Entry, ...]) -> None:
        if hard_state is not None:
            self.storage.set_hard_state(hard_state)
        if snapshot is not None:
            try:
                self.storage.apply_snapshot(snapshot)
            except SnapshotOutOfDateError:
                return
            self.conf_state = snapshot.conf_state
        self.storage.append(entries)

    def apply(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            self.applied.append(entry)
            if entry.type is not EntryType.NORMAL:
                try:
                    self.conf_state = self.raw.apply_conf_change(decode_conf_change(entry))
                except ConfChangeError:
                    continue
                self.conf_states.append(self.conf_state)

    def commands(self) -> list[bytes]:
        """The payloads of the applied commands, in order."""
        return [entry.data for entry in self.applied if entry.data and entry.type is EntryType.NORMAL]


class Network:
    """Members and the messages between them. `cut` holds the directed links that lose everything."""

    def __init__(self, voters: tuple[int, ...] = (1, 2, 3), learners: tuple[int, ...] = (), **overrides: Any) -> None:
        self.overrides = overrides
        self.asynchronous = bool(overrides.get("async_storage_writes"))
        self.members = {
            node_id: Member(node_id, base_storage(voters, learners), **overrides) for node_id in (*voters, *learners)
        }
        self.in_flight: deque[Message] = deque()
        self.cut: set[tuple[int, int]] = set()
        self.stalled: set[int] = set()
        self.peers_are_honest = True

    def __getitem__(self, node_id: int) -> RawNode:
        return self.members[node_id].raw

    def join(self, node_id: int) -> None:
        """Start a node that knows nothing yet."""
        self.members[node_id] = Member(node_id, MemoryStorage(), **self.overrides)

    def isolate(self, node_id: int) -> None:
        """Cut every link of a node."""
        for other in self.members:
            self.cut |= {(node_id, other), (other, node_id)}

    def heal(self) -> None:
        """Mend every link."""
        self.cut.clear()

    def restart(self, node_id: int, **overrides: Any) -> None:
        """Crash a node, losing everything but its storage, and start it again."""
        member = self.members[node_id]
        settings = {**self.overrides, "applied": member.storage.snapshot().index, **overrides}
        self.members[node_id] = Member(node_id, member.storage, **settings)

    def snapshot(self, node_id: int) -> None:
        """Let a node replace everything that it has applied by a snapshot."""
        member = self.members[node_id]
        applied = member.raft.log.applied
        member.storage.create_snapshot(applied, member.conf_state, b"state")
        member.storage.compact(applied)

    def leader(self) -> int:
        """The id of the leader of the highest term; there must be one."""
        leading = [(m.raft.term, i) for i, m in self.members.items() if m.raft.role is Role.LEADER]
        assert leading, "nobody leads"
        return max(leading)[1]

    def elect(self, node_id: int) -> None:
        """Make a node leader."""
        self[node_id].campaign()
        self.settle()
        assert self.members[node_id].raft.role is Role.LEADER

    def settle(self) -> None:
        """Handle everything until nothing is left to do."""
        for _ in range(10_000):
            if not self.step_once():
                return
        raise AssertionError("the cluster does not come to rest")

    def step_once(self) -> bool:
        """One Ready a node, then every message in flight; returns whether there was anything."""
        busy = False
        for node_id in self.members:
            busy |= self.handle_ready(node_id)
        waiting, self.in_flight = self.in_flight, deque()
        for message in waiting:
            busy = True
            self.deliver(message)
        return busy

    def handle_ready(self, node_id: int) -> bool:
        """Perform one Ready and the storage work that may be done."""
        member = self.members[node_id]
        busy = member.raw.has_ready()
        if busy:
            ready = member.raw.ready()
            member.read_states += ready.read_states
            if self.asynchronous:
                self._perform_async(member, ready)
            else:
                member.persist(ready.hard_state, ready.snapshot, ready.entries)
                self.in_flight += ready.messages
                member.apply(ready.committed)
                member.raw.advance()
        while member.append_work and node_id not in self.stalled:
            busy = True
            self.handle_append(node_id)
        check_invariants_fully(member.raft, peers_are_honest=self.peers_are_honest)
        return busy

    def handle_append(self, node_id: int) -> None:
        """Perform the oldest append that a disk was given."""
        member = self.members[node_id]
        work = member.append_work.popleft()
        hard_state = HardState(work.term, work.vote, work.commit) if work.term else None
        member.persist(hard_state, work.snapshot, work.entries)
        self._release(member, work)

    def _perform_async(self, member: Member, ready: Ready) -> None:
        for message in ready.messages:
            if message.type == MessageType.STORAGE_APPEND:
                member.append_work.append(message)
            elif message.type == MessageType.STORAGE_APPLY:
                member.apply(message.entries)
                self._release(member, message)
            else:
                self.in_flight.append(message)

    def _release(self, member: Member, work: Message) -> None:
        for response in work.responses:
            if response.to == member.raft.node_id:
                member.raw.step(response)
            else:
                self.in_flight.append(response)

    def deliver(self, message: Message) -> None:
        """Hand one message over, unless its link is cut. The sender of a snapshot is told what became of it."""
        lost = (message.sender, message.to) in self.cut or message.to not in self.members
        if message.type is MessageType.SNAP:
            self[message.sender].report_snapshot(message.to, not lost)
        if lost:
            return
        try:
            self[message.to].step(message)
        except (ProposalDropped, StepPeerNotFoundError):
            return

    def tick(self, count: int = 1, *node_ids: int) -> None:
        """Let time pass on some nodes (all of them if none is named), handling everything after each tick."""
        for _ in range(count):
            for node_id in node_ids or tuple(self.members):
                self[node_id].tick()
            self.settle()

    def propose(self, node_id: int, *commands: bytes) -> None:
        """Propose commands on a node, and let them settle."""
        for command in commands:
            self[node_id].propose(command)
        self.settle()


def sent(raw: RawNode, kind: MessageType | None = None) -> list[Message]:
    """Perform one Ready of a node without asynchronous writes; returns its messages, those of one kind if named.

    Committed entries are handed over but change nothing, memberships neither.
    """
    ready = raw.ready()
    storage = raw.raft.config.storage
    assert isinstance(storage, MemoryStorage)
    if ready.hard_state is not None:
        storage.set_hard_state(ready.hard_state)
    if ready.snapshot is not None:
        storage.apply_snapshot(ready.snapshot)
    storage.append(ready.entries)
    raw.advance()
    return [message for message in ready.messages if kind is None or message.type == kind]


def append_message(*entries: Entry, term: int = 2, log_term: int = 1, index: int = 1, commit: int = 0) -> Message:
    """An append from node 2 to node 1 behind the base snapshot, unless told otherwise."""
    return Message(MessageType.APP, 1, 2, term, log_term, index, entries, commit)


def lagging_follower(**options: Any) -> Network:
    """A cluster that node 1 leads, and in which node 3 missed ten commands."""
    network = Network(**options)
    network.elect(1)
    network.isolate(3)
    network.propose(1, *[b"%d" % i for i in range(10)])
    return network
