"""Leadership transfer (feature row A24)."""

from __future__ import annotations

import pytest

from raftactors.core.messages import Message, MessageType
from raftactors.core.types import NONE, Role
from raftactors.errors import ProposalDropped
from tests.core.network import Network, sent


@pytest.mark.parametrize("options", [{}, {"check_quorum": True, "pre_vote": True}])
@pytest.mark.parametrize("asked", [1, 2, 3])
def test_leadership_moves_at_once(asked: int, options: dict[str, bool]) -> None:
    network = Network((1, 2, 3), (), **options)
    network.elect(1)
    network.tick(3)
    network[asked].transfer_leader(2)
    network.settle()
    assert network.leader() == 2
    assert network[1].raft.role is Role.FOLLOWER
    assert network[2].raft.term == 3


def test_the_target_catches_up_first() -> None:
    network = Network()
    network.elect(1)
    network.isolate(3)
    network.propose(1, b"a", b"b")
    network.heal()
    network[1].transfer_leader(3)
    assert MessageType.TIMEOUT_NOW not in [message.type for message in network[1].raft.messages]
    network.settle()
    network.tick(2)
    assert network.leader() == 3
    assert network.members[3].commands() == [b"a", b"b"]


def test_proposals_are_dropped_meanwhile() -> None:
    network = Network()
    network.elect(1)
    network.cut = {(1, 2)}
    network[1].transfer_leader(2)
    with pytest.raises(ProposalDropped, match="transferred to node 2"):
        network[1].propose(b"x")


def test_a_transfer_is_given_up_after_an_election_timeout() -> None:
    network = Network()
    network.elect(1)
    network.tick(5, 1)
    network.isolate(2)
    network[1].transfer_leader(2)
    network.tick(9, 1)
    assert network[1].raft.transferee_id == 2
    network.tick(1, 1)
    assert (network[1].raft.transferee_id, network[1].raft.role) == (NONE, Role.LEADER)
    network.propose(1, b"x")
    assert network.members[3].commands() == [] or network.members[3].commands() == [b"x"]
    network.tick(1, 1, 3)
    assert network.members[3].commands() == [b"x"]


def test_another_target_takes_the_place_of_the_first() -> None:
    network = Network()
    network.elect(1)
    network.isolate(2)
    network[1].transfer_leader(2)
    network[1].transfer_leader(2)
    assert [message.to for message in sent(network[1], MessageType.TIMEOUT_NOW)] == [2]
    network[1].transfer_leader(3)
    network.settle()
    assert network.leader() == 3


def test_learners_strangers_and_the_leader_itself_are_no_targets() -> None:
    network = Network((1, 2), (3,))
    network.elect(1)
    for target in (3, 9, 1):
        network[1].transfer_leader(target)
    assert network[1].raft.transferee_id == NONE
    assert not network[1].has_ready()


def test_asking_for_the_leader_itself_gives_a_transfer_up() -> None:
    network = Network()
    network.elect(1)
    network.isolate(2)
    network[1].transfer_leader(2)
    network[1].transfer_leader(1)
    assert network[1].raft.transferee_id == NONE


def test_a_forwarded_transfer_keeps_its_target() -> None:
    network = Network()
    network.elect(1)
    network[2].transfer_leader(3)
    assert [(m.to, m.sender, m.term) for m in sent(network[2], MessageType.TRANSFER_LEADER)] == [(1, 3, 2)]


def test_a_node_without_a_leader_drops_the_request() -> None:
    network = Network()
    network[1].transfer_leader(2)
    assert not network[1].has_ready()


def test_only_followers_take_over() -> None:
    network = Network()
    network.elect(1)
    network[1].step(Message(MessageType.TIMEOUT_NOW, 1, 2, 2))
    assert (network[1].raft.role, network[1].raft.term) == (Role.LEADER, 2)
    network[2].campaign()
    network[2].step(Message(MessageType.TIMEOUT_NOW, 2, 1, 3))
    assert network[2].raft.term == 3
