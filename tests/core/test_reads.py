"""Linearizable reads (feature rows A22 and A23)."""

from __future__ import annotations

import pytest

from raftactors.core.config import ReadOnlyOption
from raftactors.core.messages import Message, MessageType
from raftactors.core.read_only import ReadOnlyQueue
from raftactors.core.types import Entry, ReadState, Role
from tests.core.network import Network, make_node, sent


def _read(context: bytes, sender: int = 0) -> Message:
    return Message(MessageType.READ_INDEX, 1, sender, entries=(Entry(0, 0, context),))


@pytest.mark.parametrize("node_id", [1, 2, 4])
def test_a_read_is_answered_where_it_was_asked(node_id: int) -> None:
    network = Network((1, 2, 3), (4,))
    network.elect(1)
    network.propose(1, b"a")
    network[node_id].read_index(b"r")
    network.settle()
    assert {i: m.read_states for i, m in network.members.items() if m.read_states} == {node_id: [ReadState(3, b"r")]}


def test_a_read_waits_for_a_quorum() -> None:
    network = Network()
    network.elect(1)
    network.isolate(1)
    network[1].read_index(b"r")
    network.settle()
    assert network.members[1].read_states == []
    assert network[1].raft.read_only.pending() == [(b"r", 2)]
    network.heal()
    network.tick(1)
    assert network.members[1].read_states == [ReadState(2, b"r")]
    assert network[1].raft.read_only.pending() == []


def test_a_deposed_leader_answers_no_read() -> None:
    network = Network()
    network.elect(1)
    network.isolate(1)
    network[1].read_index(b"stale")
    network.settle()
    network.elect(2)
    network.propose(2, b"new")
    network.heal()
    network.tick(3)
    assert network[1].raft.role is Role.FOLLOWER
    assert network.members[1].read_states == []


def test_learners_confirm_nothing() -> None:
    network = Network((1, 2), (3, 4))
    network.elect(1)
    network.isolate(2)
    network[1].read_index(b"r")
    network.tick(2, 1, 3, 4)
    assert network.members[1].read_states == []


def test_a_later_confirmation_releases_all_earlier_reads() -> None:
    network = Network()
    network.elect(1)
    for context in (b"a", b"b", b"c"):
        network[1].read_index(context)
    sent(network[1])
    network[1].step(Message(MessageType.HEARTBEAT_RESP, 1, 2, 2, context=b"b"))
    assert network[1].ready().read_states == (ReadState(2, b"a"), ReadState(2, b"b"))
    assert network[1].raft.read_only.pending() == [(b"c", 2)]


def test_heartbeats_carry_the_youngest_read() -> None:
    network = Network()
    network.elect(1)
    network[1].read_index(b"a")
    network[1].read_index(b"b")
    sent(network[1])
    network[1].tick()
    assert {message.context for message in sent(network[1], MessageType.HEARTBEAT)} == {b"b"}


def test_a_read_before_the_first_commit_of_the_term_waits_for_it() -> None:
    node = make_node()
    node.campaign()
    sent(node)
    node.step(Message(MessageType.VOTE_RESP, 1, 2, 2))
    node.read_index(b"early")
    node.step(_read(b"other", 3))
    assert [message.entries[0].data for message in node.raft.postponed_reads] == [b"early", b"other"]
    sent(node)
    node.step(Message(MessageType.APP_RESP, 1, 2, 2, index=2))
    assert node.raft.postponed_reads == []
    assert node.raft.read_only.pending() == [(b"early", 2), (b"other", 2)]
    node.step(Message(MessageType.HEARTBEAT_RESP, 1, 2, 2, context=b"other"))
    ready = node.ready()
    assert ready.read_states == (ReadState(2, b"early"),)
    answers = [message for message in ready.messages if message.type is MessageType.READ_INDEX_RESP]
    assert [(m.to, m.index, m.entries[0].data) for m in answers] == [(3, 2, b"other")]


def test_a_single_voter_answers_at_once() -> None:
    network = Network((1,), (2,))
    network.elect(1)
    network[1].read_index(b"r")
    network[1].step(_read(b"learner's", 2))
    ready = network[1].ready()
    assert ready.read_states == (ReadState(2, b"r"),)
    assert [message.to for message in ready.messages if message.type is MessageType.READ_INDEX_RESP] == [2]


def test_a_lease_answers_without_a_round() -> None:
    network = Network(check_quorum=True, read_only_option=ReadOnlyOption.LEASE_BASED)
    network.elect(1)
    network[1].read_index(b"r")
    ready = network[1].ready()
    assert (ready.read_states, ready.messages) == ((ReadState(2, b"r"),), ())


def test_reads_without_a_leader_or_a_context_are_dropped() -> None:
    node = make_node()
    node.read_index(b"r")
    assert not node.has_ready()
    node.campaign()
    sent(node)
    node.read_index(b"r")
    assert not node.has_ready()
    network = Network()
    network.elect(1)
    network[1].step(Message(MessageType.READ_INDEX, 1, 2))
    network[2].step(Message(MessageType.READ_INDEX_RESP, 2, 1, 2, index=2))
    assert not network[1].has_ready()
    assert not network[2].has_ready()


def test_queue_keeps_the_first_index_of_a_context() -> None:
    queue = ReadOnlyQueue()
    queue.add(_read(b"a"), 3)
    queue.add(_read(b"a"), 9)
    assert queue.pending() == [(b"a", 3)]
    assert queue.acknowledge(b"a", 1) == {1: True}
    assert queue.acknowledge(b"a", 2) == {1: True, 2: True}
    assert queue.acknowledge(b"none", 2) is None
    assert queue.last_context() == b"a"
    assert [read.index for read in queue.release_through(b"a")] == [3]
    assert queue.last_context() == b""


def test_queue_releases_nothing_younger() -> None:
    queue = ReadOnlyQueue()
    for context in (b"a", b"b", b"c"):
        queue.add(_read(context), 3)
    assert [read.request.entries[0].data for read in queue.release_through(b"b")] == [b"a", b"b"]
    assert queue.pending() == [(b"c", 3)]
