"""Membership changes of a running cluster (feature rows A19 to A21)."""

from __future__ import annotations

import pytest

from raftactors.core.confchange_wire import conf_change_entry
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import (
    NONE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    Role,
)
from raftactors.errors import ConfChangeError, ProposalDropped
from tests.core.network import Network, sent

ADD, REMOVE, LEARN = ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER


def _change(*steps: tuple[ConfChangeType, int], explicit: bool = False) -> ConfChangeV2:
    transition = ConfChangeTransition.JOINT_EXPLICIT if explicit else ConfChangeTransition.AUTO
    return ConfChangeV2(tuple(ConfChangeSingle(kind, node_id) for kind, node_id in steps), transition)


def _propose(network: Network, change: ConfChange | ConfChangeV2) -> None:
    network[network.leader()].propose_conf_change(change)
    network.settle()


def _confs(network: Network) -> list[ConfState]:
    return [member.raft.tracker.conf_state() for member in network.members.values()]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_learner_joins_catches_up_and_is_promoted(asynchronous: bool) -> None:
    network = Network(async_storage_writes=asynchronous)
    network.elect(1)
    network.propose(1, b"a")
    _propose(network, ConfChange(LEARN, 4))
    # Only a snapshot that knows the new member is of use to it.
    network.snapshot(1)
    network.join(4)
    network.tick(2)
    assert _confs(network) == [ConfState((1, 2, 3), (), (4,))] * 4
    assert network[4].raft.is_learner
    _propose(network, ConfChange(ADD, 4))
    network.tick(2)
    assert _confs(network) == [ConfState((1, 2, 3, 4))] * 4
    assert network[4].raft.promotable()
    network.elect(4)


def test_an_automatic_joint_change_is_left_by_itself() -> None:
    network = Network()
    network.elect(1)
    _propose(network, _change((ADD, 4), (ADD, 5), (REMOVE, 2)))
    network.snapshot(1)
    network.join(4)
    network.join(5)
    network.tick(3)
    assert network.members[1].conf_states == [
        ConfState((1, 3, 4, 5), (1, 2, 3), auto_leave=True),
        ConfState((1, 3, 4, 5)),
    ]
    assert network[4].raft.tracker.conf_state() == ConfState((1, 3, 4, 5))


def test_an_explicit_joint_change_is_left_when_told() -> None:
    network = Network()
    network.elect(1)
    _propose(network, _change((LEARN, 3), explicit=True))
    joint = ConfState((1, 2), (1, 2, 3), (), (3,))
    network.tick(2)
    assert _confs(network) == [joint] * 3
    _propose(network, _change((ADD, 4)))
    assert _confs(network) == [joint] * 3
    _propose(network, ConfChangeV2())
    network.tick(2)
    assert _confs(network) == [ConfState((1, 2), (), (3,))] * 3


def test_a_joint_configuration_needs_both_majorities() -> None:
    network = Network((1, 2, 3))
    network.elect(1)
    _propose(network, _change((REMOVE, 2), (REMOVE, 3), (ADD, 4), (ADD, 5), explicit=True))
    network.snapshot(1)
    network.join(4)
    network.join(5)
    network.tick(2)
    committed = network[1].raft.log.committed
    network.isolate(4)
    network.isolate(5)
    network.propose(1, b"x")
    assert network[1].raft.log.committed == committed
    network.heal()
    network.tick(2)
    assert network.members[5].commands() == [b"x"]


def test_only_one_change_is_in_flight() -> None:
    network = Network()
    network.elect(1)
    network[1].propose_conf_change(ConfChange(ADD, 4))
    network[1].propose_conf_change(ConfChange(ADD, 5))
    kinds = [entry.type for entry in network[1].raft.log.all_entries()[-2:]]
    assert kinds == [EntryType.CONF_CHANGE, EntryType.NORMAL]
    assert network[1].raft.log.all_entries()[-1].data is None


def test_a_new_leader_takes_no_change_before_it_has_applied_its_log() -> None:
    network = Network()
    network[1].campaign()
    sent(network[1])
    network[1].step(Message(MessageType.VOTE_RESP, 1, 2, 2))
    network[1].propose_conf_change(ConfChange(ADD, 4))
    # The log held nothing uncommitted before the leader's empty entry, so the change is taken.
    assert network[1].raft.pending_conf_index == 3
    network[1].propose_conf_change(ConfChange(ADD, 5))
    assert network[1].raft.pending_conf_index == 3


def test_leaving_what_is_not_joint_is_refused() -> None:
    network = Network()
    network.elect(1)
    network[1].propose_conf_change(ConfChangeV2())
    assert network[1].raft.log.all_entries()[-1] == Entry(2, 3, None)


def test_the_checks_can_be_switched_off_and_the_change_fails_when_applied() -> None:
    network = Network(disable_conf_change_validation=True)
    network.elect(1)
    _propose(network, ConfChangeV2())
    network.tick(1)
    assert network.members[2].applied[-1].type is EntryType.CONF_CHANGE_V2
    assert _confs(network) == [ConfState((1, 2, 3))] * 3


def test_an_unreadable_change_is_dropped() -> None:
    network = Network()
    network.elect(1)
    bad = Entry(0, 0, b"\xff", EntryType.CONF_CHANGE_V2)
    with pytest.raises(ProposalDropped, match="cannot be read"):
        network[1].step(Message(MessageType.PROP, 1, 2, entries=(bad,)))
    assert network[1].raft.log.last_index() == 2


def test_an_impossible_change_changes_nothing() -> None:
    network = Network((1,))
    network.elect(1)
    before = network[1].status()
    with pytest.raises(ConfChangeError, match="removed all voters"):
        network[1].apply_conf_change(ConfChange(REMOVE, 1))
    assert network[1].status().conf_state == before.conf_state


def test_a_redundant_change_is_harmless() -> None:
    network = Network()
    network.elect(1)
    for change in (ConfChange(ADD, 2), ConfChange(REMOVE, 9), ConfChange(ConfChangeType.UPDATE_NODE, 2)):
        _propose(network, change)
        network.tick(1)
    assert _confs(network) == [ConfState((1, 2, 3))] * 3


def test_a_removal_commits_what_the_smaller_quorum_holds() -> None:
    network = Network((1, 2, 3, 4))
    network.elect(1)
    network[1].propose_conf_change(ConfChange(REMOVE, 4))
    network[1].propose(b"x")
    network.isolate(4)
    network.cut |= {(3, 1)}
    network.settle()
    raft = network[1].raft
    assert raft.log.committed == 2
    network[1].apply_conf_change(ConfChange(REMOVE, 4))
    assert raft.log.committed == 4


@pytest.mark.parametrize("kind", [REMOVE, LEARN])
@pytest.mark.parametrize("step_down", [False, True])
def test_a_leader_that_is_removed_or_demoted(kind: ConfChangeType, step_down: bool) -> None:
    network = Network(step_down_on_removal=step_down)
    network.elect(1)
    _propose(network, ConfChange(kind, 1))
    assert network[1].raft.role is (Role.FOLLOWER if step_down else Role.LEADER)
    network.tick(30)
    if kind is REMOVE and not step_down:
        with pytest.raises(ProposalDropped, match="no member"):
            network[1].propose(b"x")
    if step_down:
        assert network.leader() in (2, 3)


def test_removing_the_target_gives_a_transfer_up() -> None:
    network = Network()
    network.elect(1)
    network[1].propose_conf_change(ConfChange(REMOVE, 3))
    network[1].transfer_leader(3)
    network.cut = {(1, 3)}
    assert network[1].raft.transferee_id == 3
    network.settle()
    assert network[1].raft.transferee_id == NONE


def test_leaving_waits_for_the_end_of_a_transfer() -> None:
    network = Network()
    network.elect(1)
    network.isolate(2)
    network[1].propose_conf_change(_change((LEARN, 3), (LEARN, 4)))
    network[1].transfer_leader(2)
    network.settle()
    raft = network[1].raft
    assert raft.tracker.conf_state() == ConfState((1, 2), (1, 2, 3), (4,), (3,), True)
    network.tick(10, 1)
    assert raft.transferee_id == NONE
    network.heal()
    # The next entry that is applied brings the leader back to it.
    network.propose(1, b"x")
    network.tick(2, 1)
    assert raft.tracker.conf_state() == ConfState((1, 2), (), (3, 4))


def test_a_new_member_is_probed_at_once() -> None:
    network = Network()
    network.elect(1)
    network[1].apply_conf_change(ConfChange(ADD, 4))
    assert [message.to for message in sent(network[1], MessageType.APP)] == [4]


def test_forwarded_changes_arrive() -> None:
    network = Network()
    network.elect(1)
    network[2].step(Message(MessageType.PROP, 2, 3, entries=(conf_change_entry(ConfChange(LEARN, 3)),)))
    network.settle()
    network.tick(1)
    assert _confs(network) == [ConfState((1, 2), (), (3,))] * 3
