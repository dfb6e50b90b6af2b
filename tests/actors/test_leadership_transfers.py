"""A transfer of the leadership is answered with True when the target leads, and otherwise with what has happened."""

from __future__ import annotations

import logging
import random

import pytest

from raftactors.actors.leadership_transfers import TRANSFERS_MAX, LeadershipTransfers
from raftactors.codec import replies
from raftactors.config import RaftTiming
from raftactors.core.config import RaftConfig
from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import Role

TIMING = RaftTiming()


class Rig:
    """Node 1 of three; what it sends goes nowhere."""

    def __init__(self) -> None:
        self.raw = RawNode(
            RaftConfig(
                node_id=1,
                election_ticks=TIMING.election_ticks,
                heartbeat_ticks=1,
                storage=MemoryStorage(),
                check_quorum=False,
                random=random.Random(1),
                logger=logging.getLogger("test"),
            )
        )
        self.raw.bootstrap([1, 2, 3])
        self.answered: list[tuple[int, replies.Reply]] = []
        self.transfers = LeadershipTransfers(
            node_id=1,
            raft=self.raw,
            timing=TIMING,
            answer=lambda pending_id, body: self.answered.append((pending_id, replies.decode_reply(body))),
        )

    def lead(self) -> None:
        self.raw.raft.become_candidate()
        self.raw.raft.become_leader()

    def follow(self, leader_id: int, *, later: int = 0) -> None:
        self.raw.raft.become_follower(self.raw.raft.term + later, leader_id)
        self.transfers.look()

    def hear(self, node_id: int) -> None:
        self.raw.step(Message(MessageType.HEARTBEAT_RESP, to=1, sender=node_id, term=self.raw.raft.term))

    def tick(self, count: int, *, hearing: int = 0) -> None:
        for _ in range(count):
            self.transfers.tick()
            self.raw.tick()
            if hearing:
                self.hear(hearing)
            self.transfers.look()

    def ask(self, target: object, pending_id: int = 1) -> None:
        self.transfers.request(pending_id, target)
        self.transfers.look()

    def rejection(self) -> str:
        ((_, answer),) = self.answered
        assert isinstance(answer, replies.RejectedReply)
        return answer.text


def test_true_means_that_the_target_leads() -> None:
    rig = Rig()
    rig.lead()
    rig.hear(2)
    rig.ask(2)
    assert rig.raw.raft.transferee_id == 2
    assert rig.answered == []
    rig.follow(0, later=1)
    assert rig.answered == [], "it may still lose the election"
    rig.follow(2)
    ((pending_id, answer),) = rig.answered
    assert isinstance(answer, replies.DocumentReply)
    assert (pending_id, answer.document) == (1, True)


@pytest.mark.parametrize("target", [9, 0, -1, True, "2", None, 2.0])
def test_who_is_no_voter_is_answered_with_those_who_are(target: object) -> None:
    rig = Rig()
    rig.lead()
    rig.ask(target)
    assert f"node {target!r} is no voter; the voters are 1, 2, 3" in rig.rejection()


def test_who_leads_is_told_so() -> None:
    rig = Rig()
    rig.lead()
    rig.ask(1)
    assert rig.rejection() == "node 1 leads already"
    other = Rig()
    other.follow(3, later=1)
    other.ask(3)
    assert other.rejection() == "node 3 leads already"


def test_a_silent_target_is_not_begun_with_so_that_commands_go_on() -> None:
    rig = Rig()
    rig.lead()
    rig.ask(2)
    rig.tick(TIMING.election_ticks - 1)
    assert rig.answered == [] and rig.raw.raft.transferee_id == 0
    rig.tick(1)
    assert "node 2 was silent for an election timeout (500 ms)" in rig.rejection()
    assert rig.rejection().endswith("node 1 leads")


def test_a_target_that_is_heard_a_little_later_is_begun_with_then() -> None:
    rig = Rig()
    rig.lead()
    rig.ask(2)
    rig.tick(2)
    rig.hear(2)
    rig.transfers.look()
    assert rig.raw.raft.transferee_id == 2


def test_a_target_that_does_not_take_over_is_told() -> None:
    rig = Rig()
    rig.lead()
    rig.hear(2)
    rig.ask(2)
    rig.tick(TIMING.election_ticks - 1)
    assert rig.answered == []
    rig.tick(1)
    assert "node 2 did not take over within an election timeout (500 ms)" in rig.rejection()


def test_a_transfer_to_another_gives_the_first_one_up() -> None:
    rig = Rig()
    rig.lead()
    rig.hear(2)
    rig.hear(3)
    rig.ask(2)
    rig.ask(3, pending_id=2)
    rig.transfers.look()
    assert "given up for one to node 3" in rig.rejection()


def test_a_follower_passes_it_on_and_watches() -> None:
    rig = Rig()
    rig.follow(3, later=1)
    rig.raw.raft.messages.clear()
    rig.ask(2)
    assert [(m.type, m.to, m.sender) for m in rig.raw.raft.messages] == [(MessageType.TRANSFER_LEADER, 3, 2)]
    rig.tick(2)
    assert len(rig.raw.raft.messages) == 1, "once"
    rig.follow(2, later=1)
    ((_, answer),) = rig.answered
    assert isinstance(answer, replies.DocumentReply)


def test_a_follower_tells_when_nothing_comes_of_it() -> None:
    rig = Rig()
    rig.follow(3, later=1)
    rig.ask(2)
    for _ in range(2 * TIMING.election_ticks):
        rig.transfers.tick()
        rig.transfers.look()
    assert "node 2 did not take over within 1000 ms" in rig.rejection()


def test_another_leader_and_none_at_all_are_told() -> None:
    rig = Rig()
    rig.follow(3, later=1)
    rig.ask(2)
    rig.follow(0, later=1)
    rig.follow(1)
    assert rig.rejection() == "node 1 was elected instead; node 1 leads"
    alone = Rig()
    assert alone.raw.raft.role is Role.FOLLOWER
    alone.ask(2)
    assert [type(answer) for _, answer in alone.answered] == [replies.RetryReply]


def test_without_a_leader_for_long_the_asker_is_told_to_ask_again() -> None:
    rig = Rig()
    rig.follow(3, later=1)
    rig.ask(2)
    rig.follow(0)
    for _ in range(4 * TIMING.election_ticks):
        assert rig.answered == []
        rig.transfers.tick()
        rig.transfers.look()
    assert [type(answer) for _, answer in rig.answered] == [replies.RetryReply]


def test_what_waits_is_bounded() -> None:
    rig = Rig()
    rig.lead()
    for pending_id in range(TRANSFERS_MAX + 1):
        rig.ask(2, pending_id)
    ((pending_id, answer),) = rig.answered
    assert pending_id == TRANSFERS_MAX
    assert isinstance(answer, replies.BusyReply)
