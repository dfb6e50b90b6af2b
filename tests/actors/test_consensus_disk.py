"""What consensus does when its node's disk is full or stalled: it hands over, takes nothing, and is not elected."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import cast

from raftactors.actors.consensus import Consensus, Neighbours
from raftactors.actors.disk_duty import FULL_STANDS_AFTER
from raftactors.actors.mailbox import Batch, Mailbox
from raftactors.actors.messages import (
    AppendsDone,
    AppendWork,
    AppliesDone,
    ApplyWork,
    ClientFrame,
    DiskSpace,
    Outbound,
    PeerMessages,
    Proposals,
    RaftReport,
    Reads,
    Refused,
    Tick,
)
from raftactors.config import Member, NodeConfig
from raftactors.core.config import RaftConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import Entry, Role

ELECTION_TICKS = 10
STALL_TICKS = 2 * ELECTION_TICKS


class Rig:
    """Node 1 of a cluster; the test plays its disk and its peers."""

    def __init__(self, size: int = 3, *, check_quorum: bool = False) -> None:
        members = tuple(
            Member(node_id=n, peer_address=f"127.0.0.1:{n}", client_address=f"127.0.0.1:{n + 10}")
            for n in range(1, size + 1)
        )
        config = NodeConfig(cluster_id=7, node_id=1, data_dir=Path("x"), members=members)
        log = MemoryStorage()
        self.raw = RawNode(
            RaftConfig(
                node_id=1,
                election_ticks=ELECTION_TICKS,
                heartbeat_ticks=1,
                storage=log,
                check_quorum=check_quorum,
                async_storage_writes=True,
                random=random.Random(1),
                logger=logging.getLogger("test"),
            )
        )
        self.raw.bootstrap(range(1, size + 1))
        self.boxes = Neighbours(*(Mailbox(name, messages_max=10_000) for name in Neighbours._fields))
        self.actor = Consensus(
            Mailbox("consensus", messages_max=100),
            config=config,
            incarnation=1,
            raft=self.raw,
            log=log,
            neighbours=self.boxes,
        )
        self.tell()
        self.sync()

    @property
    def role(self) -> Role:
        return self.raw.raft.role

    def tell(self, *messages: object) -> None:
        self.actor.on_receive(Batch(list(messages)))

    @staticmethod
    def took(box: Mailbox) -> list[object]:
        return [] if box.empty() else list(box.get().message.messages)

    def sync(self) -> None:
        """Finish everything that is at the disk, and apply what is committed."""
        while True:
            appends = [m.message for m in self.took(self.boxes.storage) if isinstance(m, AppendWork)]
            applies = [m.message for m in self.took(self.boxes.application) if isinstance(m, ApplyWork)]
            if not appends and not applies:
                return
            self.tell(AppendsDone(appends), AppliesDone(applies))

    def sent(self) -> list[Message]:
        outbound = [m for m in self.took(self.boxes.transport) if isinstance(m, Outbound)]
        return [message for out in outbound for message in out.messages]

    def refused(self) -> list[Refused]:
        return [m for m in self.took(self.boxes.gateway) if isinstance(m, Refused)]

    def disk_in_status(self) -> str:
        return [m for m in self.took(self.boxes.monitor) if isinstance(m, RaftReport)][-1].disk

    def peer(self, kind: MessageType, sender: int = 2, **fields: object) -> None:
        term = cast(int, fields.pop("term", self.raw.raft.term))
        message = Message(kind, to=1, sender=sender, term=term)._replace(**fields)  # type: ignore[arg-type]
        self.tell(PeerMessages([message]))

    def lead(self) -> None:
        """Be elected by node 2, which then holds the whole log."""
        self.tick(3 * ELECTION_TICKS)
        self.sync()
        self.peer(MessageType.VOTE_RESP)
        assert self.role is Role.LEADER
        self.sync()
        self.catch_up()
        self.sync()
        self.sent()
        self.refused()

    def catch_up(self) -> None:
        """Node 2 acknowledges everything."""
        self.peer(MessageType.APP_RESP, index=self.raw.raft.log.last_index())

    def propose(self, pending_id: int = 1) -> None:
        self.tell(Proposals([ClientFrame(pending_id, b"\x03payload")]))

    def tick(self, count: int, *, heard: bool = True) -> None:
        for _ in range(count):
            self.tell(Tick())
            if heard and self.role is Role.LEADER:
                self.peer(MessageType.HEARTBEAT_RESP)


def test_a_leader_whose_append_does_not_return_hands_over_to_whoever_holds_the_log() -> None:
    rig = Rig()
    rig.lead()
    rig.propose()
    rig.catch_up()
    rig.tick(STALL_TICKS - 1)
    assert MessageType.TIMEOUT_NOW not in {m.type for m in rig.sent()}
    rig.tick(2)
    assert [(m.type, m.to) for m in rig.sent() if m.type == MessageType.TIMEOUT_NOW] == [(MessageType.TIMEOUT_NOW, 2)]
    rig.tell(Tick())
    assert rig.disk_in_status() == "stalled"


def test_a_stalled_leader_whose_successor_does_not_come_sends_no_more_heartbeats() -> None:
    rig = Rig()
    rig.lead()
    rig.propose()
    rig.tick(STALL_TICKS + ELECTION_TICKS + 2)
    assert rig.role is Role.FOLLOWER
    rig.sent()
    rig.tick(10 * ELECTION_TICKS)
    assert rig.role is Role.FOLLOWER
    assert rig.sent() == []


def test_a_node_with_a_stalled_disk_stands_for_no_election_and_takes_no_leadership() -> None:
    rig = Rig()
    rig.lead()
    rig.propose()
    rig.tick(STALL_TICKS + ELECTION_TICKS + 2)
    rig.peer(MessageType.TIMEOUT_NOW)
    assert rig.role is Role.FOLLOWER


def test_a_node_whose_disk_is_well_again_stands_as_before() -> None:
    rig = Rig()
    rig.lead()
    rig.propose()
    rig.tick(STALL_TICKS + ELECTION_TICKS + 2)
    rig.sync()
    rig.tick(1)
    assert rig.disk_in_status() == "ok"
    rig.tick(2 * ELECTION_TICKS)
    assert rig.role is Role.CANDIDATE


def test_clients_of_a_stalled_follower_are_sent_on() -> None:
    rig = Rig()
    rig.lead()
    rig.propose(1)
    rig.tick(STALL_TICKS + ELECTION_TICKS + 2)
    rig.refused()
    rig.tell(Proposals([ClientFrame(2, b"\x03payload")]), Reads([ClientFrame(3, b"\x07payload")]))
    assert rig.refused() == [Refused([2, 3], busy=False)]


def test_a_leader_with_a_full_disk_hands_over_and_takes_no_writes_meanwhile() -> None:
    rig = Rig()
    rig.lead()
    rig.tell(DiskSpace(is_full=True))
    assert rig.disk_in_status() == "full"
    rig.propose(5)
    assert rig.refused() == [Refused([5], busy=True)]
    rig.tick(2)
    assert MessageType.TIMEOUT_NOW in {m.type for m in rig.sent()}


def test_a_full_follower_takes_no_entries_but_hears_its_leader_and_votes() -> None:
    rig = Rig()
    rig.lead()
    term = rig.raw.raft.term + 1
    rig.peer(MessageType.HEARTBEAT, term=term)
    rig.sync()
    rig.tell(DiskSpace(is_full=True))
    last = rig.raw.raft.log.last_index()
    rig.peer(MessageType.APP, term=term, index=last, log_term=term - 1, entries=(Entry(term, last + 1, b"x"),))
    assert rig.raw.raft.log.last_index() == last
    rig.sent()
    rig.peer(MessageType.VOTE, sender=3, term=term + 1, index=last, log_term=term - 1)
    rig.sync()
    assert rig.raw.raft.vote == 3
    rig.tell(DiskSpace(is_full=False))
    rig.peer(MessageType.HEARTBEAT, sender=3, term=term + 1)
    rig.peer(
        MessageType.APP,
        sender=3,
        term=term + 1,
        index=last,
        log_term=term - 1,
        entries=(Entry(term + 1, last + 1, b"x"),),
    )
    assert rig.raw.raft.log.last_index() == last + 1


def test_a_full_node_on_its_own_goes_on_to_lead_for_the_reads_and_refuses_writes() -> None:
    rig = Rig(size=1)
    for _ in range(3 * ELECTION_TICKS):
        rig.tick(1)
        rig.sync()
    assert rig.role is Role.LEADER
    rig.tell(DiskSpace(is_full=True))
    rig.tick(5 * ELECTION_TICKS)
    assert rig.role is Role.LEADER
    rig.refused()
    rig.propose(9)
    assert rig.refused() == [Refused([9], busy=True)]


def test_a_leader_that_nobody_could_replace_stays() -> None:
    rig = Rig()
    rig.lead()
    for progress in rig.raw.raft.tracker.progress.values():
        progress.recent_active = False
    rig.tell(DiskSpace(is_full=True))
    rig.tick(3 * ELECTION_TICKS, heard=False)
    assert rig.role is Role.LEADER


def test_a_full_follower_votes_once_its_leader_is_silent_and_takes_the_empty_entry_of_the_next() -> None:
    rig = Rig(check_quorum=True)
    rig.lead()
    term, last = rig.raw.raft.term + 1, rig.raw.raft.log.last_index()
    rig.peer(MessageType.HEARTBEAT, term=term)
    rig.sync()
    rig.tell(DiskSpace(is_full=True))
    asks = {"sender": 3, "term": term + 1, "index": last, "log_term": term - 1}
    rig.peer(MessageType.VOTE, **asks)
    assert rig.raw.raft.term == term  # The leader was heard a moment ago.
    rig.tick(ELECTION_TICKS)
    rig.peer(MessageType.VOTE, **asks)
    rig.sync()
    assert rig.raw.raft.vote == 3
    rig.peer(MessageType.APP, entries=(Entry(term + 1, last + 1, None),), **asks)
    assert rig.raw.raft.log.last_index() == last + 1


def test_a_node_whose_disk_is_full_stands_only_when_nobody_else_does_and_then_leads_on() -> None:
    rig = Rig()
    rig.lead()
    rig.peer(MessageType.HEARTBEAT, term=rig.raw.raft.term + 1)
    rig.sync()
    rig.tell(DiskSpace(is_full=True))
    term = rig.raw.raft.term
    rig.tick(FULL_STANDS_AFTER * ELECTION_TICKS)
    assert rig.raw.raft.term == term
    rig.tick(1)
    assert rig.raw.raft.term == term + 1
    rig.sync()
    rig.peer(MessageType.VOTE_RESP)
    rig.sync()
    rig.catch_up()
    rig.sent()
    rig.tick(5 * ELECTION_TICKS)
    assert rig.role is Role.LEADER
    assert MessageType.TIMEOUT_NOW not in {m.type for m in rig.sent()}
    rig.refused()
    rig.propose(4)
    assert rig.refused() == [Refused([4], busy=True)]
