"""The door: what a Ready holds, in which order, and what may not enter (feature rows A5, A26, A27)."""

from __future__ import annotations

import logging

import pytest

from raftactors.core.messages import Message, MessageType
from raftactors.core.raw_node import RawNode
from raftactors.core.ready import Ready
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import (
    APPEND_THREAD,
    APPLY_THREAD,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Role,
    SoftState,
)
from raftactors.errors import ConfigError, InvariantViolation, StepLocalMessageError, StepPeerNotFoundError
from tests.core.network import Network, make_config, make_node, sent

LOCAL = [
    MessageType.HUP,
    MessageType.BEAT,
    MessageType.UNREACHABLE,
    MessageType.SNAP_STATUS,
    MessageType.CHECK_QUORUM,
    MessageType.STORAGE_APPEND,
    MessageType.STORAGE_APPEND_RESP,
    MessageType.STORAGE_APPLY,
    MessageType.STORAGE_APPLY_RESP,
]
RESPONSES = [
    MessageType.APP_RESP,
    MessageType.VOTE_RESP,
    MessageType.HEARTBEAT_RESP,
    MessageType.READ_INDEX_RESP,
    MessageType.PRE_VOTE_RESP,
]


@pytest.mark.parametrize("kind", LOCAL)
def test_local_kinds_are_refused_from_the_network(kind: MessageType) -> None:
    node = make_node()
    with pytest.raises(StepLocalMessageError, match=kind.name):
        node.step(Message(kind, 1, 2, 1))
    assert not node.has_ready()


@pytest.mark.parametrize("kind", RESPONSES)
def test_responses_of_strangers_are_refused(kind: MessageType) -> None:
    node = make_node()
    with pytest.raises(StepPeerNotFoundError, match="node 9"):
        node.step(Message(kind, 1, 9, 5))
    assert node.raft.term == 1


@pytest.mark.parametrize("kind", sorted(MessageType))
@pytest.mark.parametrize("role", list(Role))
def test_every_role_takes_every_kind(kind: MessageType, role: Role) -> None:
    node = make_node(pre_vote=role is Role.PRE_CANDIDATE)
    if role is not Role.FOLLOWER:
        node.campaign()
    if role is Role.LEADER:
        sent(node)
        node.step(Message(MessageType.VOTE_RESP, 1, 2, 2))
    assert node.raft.role is role
    entries = (Entry(0, 0, b"x"),) if kind in (MessageType.PROP, MessageType.READ_INDEX) else ()
    if kind is not MessageType.PROP:
        node.raft.step(Message(kind, 1, 2, node.raft.term, entries=entries))


def test_an_idle_node_has_nothing() -> None:
    node = make_node()
    assert not node.has_ready()
    assert node.ready() == Ready()
    node.advance()


def test_bootstrap_hands_the_members_out_as_committed_entries() -> None:
    node = RawNode(make_config(2, MemoryStorage()))
    node.bootstrap([1, 2, 3])
    assert node.raft.tracker.conf_state() == ConfState((1, 2, 3))
    ready = node.ready()
    assert ready.hard_state == HardState(1, 0, 3)
    assert [(entry.term, entry.index, entry.type) for entry in ready.committed] == [
        (1, index, EntryType.CONF_CHANGE) for index in (1, 2, 3)
    ]
    assert ready.committed == ready.entries
    assert ready.must_sync


def test_bootstrap_refuses_what_is_not_new() -> None:
    with pytest.raises(ConfigError, match="at least one peer"):
        RawNode(make_config(1, MemoryStorage())).bootstrap([])
    with pytest.raises(ConfigError, match="restart instead"):
        make_node().bootstrap([1])


def test_a_restart_finds_everything_again() -> None:
    network = Network()
    network.elect(1)
    network.propose(1, b"a", b"b")
    before = network[2].raft.hard_state()
    network.restart(2)
    assert network[2].raft.hard_state() == before
    assert network[2].raft.tracker.conf_state() == ConfState((1, 2, 3))
    network.settle()
    assert network.members[2].commands() == [b"a", b"b"]


def test_a_restart_hands_out_nothing_that_was_applied() -> None:
    network = Network()
    network.elect(1)
    network.propose(1, b"a", b"b")
    network.restart(2, applied=3)
    network.settle()
    assert network.members[2].commands() == [b"b"]


def test_answers_that_promise_durability_come_last_and_own_ones_never() -> None:
    node = make_node()
    node.step(Message(MessageType.APP, 1, 2, 2, 1, 1, (Entry(2, 2, b""),)))
    node.step(Message(MessageType.HEARTBEAT, 1, 2, 2))
    assert [message.type for message in node.ready().messages] == [MessageType.HEARTBEAT_RESP, MessageType.APP_RESP]
    network = Network()
    network.elect(1)
    network[1].propose(b"x")
    assert {message.to for message in network[1].ready().messages} == {2, 3}


def test_a_commit_index_alone_needs_no_sync() -> None:
    node = make_node()
    node.step(Message(MessageType.APP, 1, 2, 2, 1, 1, (Entry(2, 2, b""),)))
    assert sent(node)
    node.step(Message(MessageType.HEARTBEAT, 1, 2, 2, commit=2))
    ready = node.ready()
    assert (ready.hard_state, ready.must_sync) == (HardState(2, 0, 2), False)


def test_soft_state_shows_only_changes() -> None:
    node = make_node()
    node.step(Message(MessageType.HEARTBEAT, 1, 2, 2))
    assert node.ready().soft_state == SoftState(2, Role.FOLLOWER)
    node.advance()
    node.step(Message(MessageType.HEARTBEAT, 1, 2, 2))
    assert node.ready().soft_state is None


def test_ready_and_advance_take_turns() -> None:
    node = make_node()
    node.campaign()
    node.ready()
    with pytest.raises(InvariantViolation, match="without advance"):
        node.ready()
    with pytest.raises(InvariantViolation, match="asynchronous"):
        make_node(async_storage_writes=True).advance()


# --- asynchronous storage writes --------------------------------------------------------------------------------------


def test_storage_work_carries_the_answers_it_holds_back() -> None:
    node = make_node(async_storage_writes=True)
    entry = Entry(2, 2, b"x")
    node.step(Message(MessageType.APP, 1, 2, 2, 1, 1, (entry,)))
    (work,) = node.ready().messages
    assert work == Message(
        MessageType.STORAGE_APPEND,
        APPEND_THREAD,
        1,
        2,
        entries=(entry,),
        commit=1,
        responses=(
            Message(MessageType.APP_RESP, 2, 1, 2, index=2),
            Message(MessageType.STORAGE_APPEND_RESP, 1, APPEND_THREAD, 2, 2, 2),
        ),
    )


def test_an_acknowledgement_of_replaced_entries_is_ignored() -> None:
    node = make_node(async_storage_writes=True)
    node.step(Message(MessageType.APP, 1, 2, 2, 1, 1, (Entry(2, 2, b"old"),)))
    (first,) = node.ready().messages
    node.step(Message(MessageType.APP, 1, 3, 3, 1, 1, (Entry(3, 2, b"new"),)))
    (second,) = node.ready().messages
    node.step(first.responses[-1])
    assert node.raft.log.unstable.offset == 2
    storage = node.raft.config.storage
    assert isinstance(storage, MemoryStorage)
    storage.append(second.entries)
    node.step(second.responses[-1])
    assert node.raft.log.unstable.offset == 3


def test_entries_are_applied_only_when_they_are_durable() -> None:
    network = Network(async_storage_writes=True)
    network.elect(1)
    network.stalled.add(3)
    network.propose(1, b"a")
    network.tick(2)
    assert network[3].raft.log.committed == 3
    assert network.members[3].commands() == []
    network.stalled.clear()
    network.settle()
    assert network.members[3].commands() == [b"a"]


def test_apply_work_is_acknowledged_by_its_one_response() -> None:
    network = Network((1,), async_storage_writes=True)
    node = network[1]
    network.elect(1)
    node.propose(b"a")
    network.members[1].append_work.extend(node.ready().messages)
    network.handle_append(1)
    (apply_work,) = [message for message in node.ready().messages if message.type is MessageType.STORAGE_APPLY]
    assert apply_work.to == APPLY_THREAD
    assert node.raft.log.applied == 2
    (response,) = apply_work.responses
    node.step(response)
    assert node.raft.log.applied == 3


def test_commits_in_pieces_of_the_limit() -> None:
    network = Network(async_storage_writes=True, committed_bytes_per_ready_max=30)
    network.elect(1)
    network.propose(1, *[b"x" * 10 for _ in range(20)])
    network.tick(1)
    assert len(network.members[2].commands()) == 20


# --- status and log ---------------------------------------------------------------------------------------------------


def test_status_shows_progress_on_leaders_only_and_as_a_copy() -> None:
    network = Network((1, 2), (3,))
    network.elect(1)
    status = network[1].status()
    assert status.basic == network[1].basic_status()
    assert (status.basic.node_id, status.basic.soft_state) == (1, SoftState(1, Role.LEADER))
    assert (status.basic.hard_state, status.basic.applied) == (HardState(2, 1, 2), 2)
    assert status.conf_state == ConfState((1, 2), (), (3,))
    assert list(status.progress) == [1, 2, 3]
    status.progress[2].match = 77
    assert network[1].raft.tracker.progress[2].match == 2
    assert network[2].status().progress == {}


def test_state_changes_and_drops_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("raftactors.tests.core.spoken")
    caplog.set_level(logging.DEBUG, logger.name)
    network = Network(logger=logger, pre_vote=True)
    network.elect(1)
    network[2].step(Message(MessageType.VOTE, 2, 3, 1))
    network[1].step(Message(MessageType.TIMEOUT_NOW, 1, 2, 2))
    for text in (
        "became follower at term 1",
        "became pre-candidate at term 1",
        "became candidate at term 2",
        "became leader at term 2",
        "with lower term 1 from 3",
        "node 1, a leader, ignores TIMEOUT_NOW from 2",
    ):
        assert text in caplog.text
