"""Elections, pre-votes, leases and terms (feature rows A2 to A10, A21, A25)."""

from __future__ import annotations

from typing import Any

import pytest

from raftactors.core.config import ReadOnlyOption
from raftactors.core.messages import CAMPAIGN_TRANSFER, Message, MessageType
from raftactors.core.types import NONE, Entry, EntryType, HardState, Role, Snapshot
from raftactors.errors import InvariantViolation
from tests.core.network import Network, base_storage, make_node, sent

VOTE, VOTE_RESP = MessageType.VOTE, MessageType.VOTE_RESP
PRE_VOTE, PRE_VOTE_RESP = MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP


def _vote(term: int, sender: int = 2, index: int = 1, log_term: int = 1, kind: MessageType = VOTE) -> Message:
    return Message(kind, 1, sender, term, log_term, index)


@pytest.mark.parametrize("pre_vote", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_somebody_is_elected_and_everybody_knows(count: int, asynchronous: bool, pre_vote: bool) -> None:
    voters = tuple(range(1, count + 1))
    network = Network(voters, pre_vote=pre_vote, async_storage_writes=asynchronous)
    network.tick(20)
    leader = network.leader()
    assert {member.raft.leader_id for member in network.members.values()} == {leader}
    assert {member.raft.log.committed for member in network.members.values()} == {2}


def test_a_follower_campaigns_at_its_timeout_and_not_before() -> None:
    node = make_node()
    timeout = node.raft.randomized_election_timeout_ticks
    for _ in range(timeout - 1):
        node.tick()
    assert node.raft.role is Role.FOLLOWER
    node.tick()
    assert (node.raft.role, node.raft.term, node.raft.vote) == (Role.CANDIDATE, 2, 1)
    assert node.raft.election_elapsed_ticks == 0
    assert [message.to for message in sent(node, VOTE)] == [2, 3]


def test_the_own_vote_counts_only_when_it_is_durable() -> None:
    node = make_node(voters=(1,))
    node.campaign()
    assert (node.raft.role, node.raft.tracker.votes) == (Role.CANDIDATE, {})
    ready = node.ready()
    assert ready.must_sync
    assert ready.hard_state == HardState(2, 1, 1)
    node.advance()
    assert (node.raft.role, node.raft.log.committed) == (Role.LEADER, 1)
    sent(node)
    assert node.raft.log.committed == 2


@pytest.mark.parametrize(
    ("voters", "votes", "role"),
    [
        ((1, 2, 3), {1: True}, Role.CANDIDATE),
        ((1, 2, 3), {1: True, 2: True}, Role.LEADER),
        ((1, 2, 3), {1: True, 2: False}, Role.CANDIDATE),
        ((1, 2, 3), {1: True, 2: False, 3: False}, Role.FOLLOWER),
        ((1, 2), {1: True, 2: False}, Role.FOLLOWER),
        ((1, 2, 3, 4), {1: True, 2: False, 3: False}, Role.FOLLOWER),
        ((1, 2, 3, 4), {1: True, 9: True, 8: True}, Role.CANDIDATE),
    ],
)
def test_elections_are_won_and_lost_by_majorities(voters: tuple[int, ...], votes: dict[int, bool], role: Role) -> None:
    node = make_node(voters=voters)
    node.campaign()
    for sender, granted in votes.items():
        node.raft.step(Message(VOTE_RESP, 1, sender, 2, reject=not granted))
    assert node.raft.role is role


def test_a_vote_is_given_once_a_term_but_again_to_the_same_candidate() -> None:
    node = make_node()
    for sender, reject in ((2, False), (3, True), (2, False)):
        node.step(_vote(2, sender))
        (answer,) = sent(node, VOTE_RESP)
        assert (answer.to, answer.term, answer.reject) == (sender, 2, reject)
    assert node.raft.vote == 2


def test_the_vote_survives_a_restart() -> None:
    storage = base_storage((1, 2, 3))
    storage.set_hard_state(HardState(2, 3, 1))
    network = Network()
    network.members[1].storage.set_hard_state(HardState(2, 3, 1))
    network.restart(1)
    network[1].step(_vote(2, 2))
    assert [message.reject for message in sent(network[1], VOTE_RESP)] == [True]


@pytest.mark.parametrize(
    ("log_term", "index", "granted"), [(1, 1, False), (2, 1, False), (2, 2, True), (2, 3, True), (3, 1, True)]
)
@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
def test_votes_go_to_complete_logs_only(log_term: int, index: int, granted: bool, kind: MessageType) -> None:
    node = make_node()
    node.step(Message(MessageType.APP, 1, 3, 2, 1, 1, (Entry(2, 2, b""),)))
    sent(node)
    node.step(_vote(3, 2, index, log_term, kind))
    (answer,) = [message for message in sent(node) if message.type in (VOTE_RESP, PRE_VOTE_RESP)]
    assert answer.reject is not granted


def test_an_unused_vote_is_not_free_while_a_leader_is_known() -> None:
    node = make_node()
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 2))
    node.step(_vote(2))
    assert [message.reject for message in sent(node, VOTE_RESP)] == [True]
    node.forget_leader()
    node.step(_vote(2))
    assert [message.reject for message in sent(node, VOTE_RESP)] == [False]


def test_learners_vote_but_never_campaign() -> None:
    node = make_node(3, voters=(1, 2), learners=(3,))
    node.step(_vote(2)._replace(to=3))
    assert [message.reject for message in sent(node, VOTE_RESP)] == [False]
    for _ in range(50):
        node.tick()
    node.campaign()
    node.step(Message(MessageType.TIMEOUT_NOW, 3, 2, 2))
    assert node.raft.role is Role.FOLLOWER
    assert not node.raft.promotable()


def test_nobody_outside_of_the_membership_campaigns() -> None:
    node = make_node(9)
    for _ in range(50):
        node.tick()
    node.campaign()
    assert (node.raft.role, node.has_ready()) == (Role.FOLLOWER, False)


# --- pre-vote -----------------------------------------------------------------------------------------------------


def test_a_pre_vote_changes_neither_term_nor_vote_nor_timeout() -> None:
    node = make_node(pre_vote=True)
    timeout = node.raft.randomized_election_timeout_ticks
    node.campaign()
    raft = node.raft
    assert (raft.role, raft.term, raft.vote) == (Role.PRE_CANDIDATE, 1, NONE)
    assert raft.randomized_election_timeout_ticks == timeout
    assert [(message.to, message.term) for message in sent(node, PRE_VOTE)] == [(2, 2), (3, 2)]
    assert raft.tracker.votes == {1: True}
    node.step(Message(PRE_VOTE_RESP, 1, 3, 2))
    assert (raft.role, raft.term, raft.vote) == (Role.CANDIDATE, 2, 1)


def test_a_granted_pre_vote_leaves_the_granter_as_it_was() -> None:
    node = make_node()
    node.step(_vote(9, kind=PRE_VOTE))
    (answer,) = sent(node, PRE_VOTE_RESP)
    assert (answer.term, answer.reject) == (9, False)
    assert (node.raft.term, node.raft.vote) == (1, NONE)


def test_a_refusal_of_a_higher_term_is_followed() -> None:
    node = make_node(pre_vote=True)
    node.campaign()
    node.step(Message(PRE_VOTE_RESP, 1, 2, 7, reject=True))
    assert (node.raft.role, node.raft.term) == (Role.FOLLOWER, 7)


def test_a_pre_vote_of_a_lower_term_is_answered() -> None:
    node = make_node()
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 5))
    sent(node)
    node.step(_vote(2, kind=PRE_VOTE))
    assert [(message.term, message.reject) for message in sent(node, PRE_VOTE_RESP)] == [(5, True)]


def test_an_isolated_node_comes_back_without_disturbing_anybody() -> None:
    network = Network(pre_vote=True, check_quorum=True)
    network.elect(1)
    network.isolate(3)
    network.tick(100)
    assert network[3].raft.term == 2
    network.heal()
    network.tick(30)
    assert (network.leader(), network[1].raft.term) == (1, 2)
    assert network[3].raft.leader_id == 1


# --- lease and lower terms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
def test_a_live_leader_is_not_deposed(kind: MessageType) -> None:
    node = make_node(check_quorum=True)
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 2))
    sent(node)
    for _ in range(9):
        node.tick()
    node.step(_vote(3, kind=kind))
    assert (node.raft.term, sent(node)) == (2, [])
    node.step(_vote(3, kind=kind)._replace(context=CAMPAIGN_TRANSFER))
    assert len(sent(node)) == 1


def test_the_lease_ends_after_an_election_timeout() -> None:
    node = make_node(check_quorum=True, election_jitter=lambda node_id, term: 9)
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 2))
    for _ in range(10):
        node.tick()
    node.step(_vote(3))
    assert (node.raft.term, node.raft.vote) == (3, 2)


@pytest.mark.parametrize("options", [{}, {"check_quorum": True}, {"pre_vote": True}])
@pytest.mark.parametrize("kind", [MessageType.HEARTBEAT, MessageType.APP])
def test_a_stale_leader_learns_the_term_if_it_could_not_otherwise(options: dict[str, Any], kind: MessageType) -> None:
    node = make_node(**options)
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 5))
    sent(node)
    node.step(Message(kind, 1, 2, 3))
    answers = [(message.type, message.to, message.term) for message in sent(node)]
    assert answers == ([(MessageType.APP_RESP, 2, 5)] if options else [])


def test_other_messages_of_a_lower_term_are_ignored() -> None:
    node = make_node(check_quorum=True)
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 5))
    sent(node)
    for kind in (VOTE, VOTE_RESP, MessageType.SNAP, MessageType.TIMEOUT_NOW):
        node.step(Message(kind, 1, 2, 3, 9, 9))
    assert (sent(node), node.raft.term) == ([], 5)


def test_a_leader_without_a_quorum_steps_down() -> None:
    network = Network(check_quorum=True)
    network.elect(1)
    network.tick(25)
    assert network[1].raft.role is Role.LEADER
    network.isolate(1)
    for _ in range(20):
        network[1].tick()
    assert (network[1].raft.role, network[1].raft.leader_id) == (Role.FOLLOWER, NONE)


def test_a_leader_of_a_quorum_stays_although_a_follower_is_gone() -> None:
    network = Network(check_quorum=True)
    network.elect(1)
    network.isolate(3)
    network.tick(40, 1, 2)
    assert network[1].raft.role is Role.LEADER


def test_candidates_follow_a_leader_of_their_term() -> None:
    for kind in (MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP):
        node = make_node()
        node.campaign()
        node.step(Message(kind, 1, 3, 2, 1, 1, snapshot=Snapshot() if kind is MessageType.SNAP else None))
        assert (node.raft.role, node.raft.leader_id, node.raft.vote) == (Role.FOLLOWER, 3, 1)


def test_no_campaign_with_unapplied_membership_changes() -> None:
    node = make_node()
    change = Entry(2, 2, b"\x08\x00", EntryType.CONF_CHANGE_V2)
    node.step(Message(MessageType.APP, 1, 3, 2, 1, 1, (change,), 2))
    node.campaign()
    assert node.raft.soft_state().role is Role.FOLLOWER
    sent(node)
    node.campaign()
    assert node.raft.soft_state().role is Role.CANDIDATE


def test_forbidden_transitions_stop_the_node() -> None:
    network = Network()
    network.elect(1)
    with pytest.raises(InvariantViolation, match="leader cannot become a candidate"):
        network[1].raft.become_candidate()
    with pytest.raises(InvariantViolation, match="leader cannot become a pre-candidate"):
        network[1].raft.become_pre_candidate()
    with pytest.raises(InvariantViolation, match="without an election"):
        network[2].raft.become_leader()


def test_forgetting_the_leader_is_refused_with_leases() -> None:
    node = make_node(check_quorum=True, read_only_option=ReadOnlyOption.LEASE_BASED)
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 2))
    node.forget_leader()
    assert node.raft.leader_id == 3


@pytest.mark.parametrize("commit", [0, 9])
def test_start_refuses_a_commit_index_outside_of_the_log(commit: int) -> None:
    network = Network()
    network.members[1].storage.set_hard_state(HardState(3, 1, commit))
    if commit:
        with pytest.raises(InvariantViolation, match="stored commit index 9"):
            network.restart(1)
    else:
        network.restart(1)
        assert network[1].raft.log.committed == 1
