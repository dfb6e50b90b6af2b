"""Sending and restoring snapshots (feature rows A16 and A17)."""

from __future__ import annotations

import pytest

from raftactors.core.messages import Message, MessageType
from raftactors.core.progress import ProgressState
from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.errors import SnapshotTemporarilyUnavailableError
from tests.core.network import Network, append_message, lagging_follower, make_node, sent

APP_RESP = MessageType.APP_RESP
TRIO = ConfState((1, 2, 3))


def _compact(network: Network, node_id: int, upto: int) -> None:
    member = network.members[node_id]
    member.storage.create_snapshot(upto, member.conf_state, b"state")
    member.storage.compact(upto)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_follower_behind_the_log_gets_a_snapshot(asynchronous: bool) -> None:
    network = lagging_follower(async_storage_writes=asynchronous)
    _compact(network, 1, 10)
    network.heal()
    network.tick(2)
    assert network[3].raft.log.committed == 12
    assert network.members[3].storage.snapshot().index == 10
    assert network[3].raft.log.applied == 12
    assert network.members[3].commands() == [b"8", b"9"]
    assert network[1].raft.tracker.progress[3].state is ProgressState.REPLICATE


def test_only_a_recently_active_follower_gets_a_snapshot() -> None:
    network = lagging_follower(check_quorum=True)
    _compact(network, 1, 10)
    network.tick(10, 1, 2)
    network[1].report_unreachable(3)
    network[1].propose(b"x")
    assert not network[1].raft.tracker.progress[3].recent_active
    assert sent(network[1], MessageType.SNAP) == []
    network[1].step(Message(MessageType.HEARTBEAT_RESP, 1, 3, 2))
    assert [message.to for message in sent(network[1], MessageType.SNAP)] == [3]


def test_a_snapshot_that_is_not_ready_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lagging_follower()
    _compact(network, 1, 10)
    storage = network.members[1].storage

    def not_ready() -> Snapshot:
        raise SnapshotTemporarilyUnavailableError("being written")

    network.heal()
    with monkeypatch.context() as patch:
        patch.setattr(storage, "snapshot", not_ready)
        network.tick(2)
        assert network[1].raft.tracker.progress[3].state is ProgressState.PROBE
    network.tick(2)
    assert network[3].raft.log.committed == 12


@pytest.mark.parametrize(("arrived", "following"), [(True, 11), (False, 3)])
def test_the_fate_of_a_snapshot_is_reported(arrived: bool, following: int) -> None:
    network = lagging_follower()
    _compact(network, 1, 10)
    network.cut = {(1, 3)}
    network.tick(1, 1)
    network[1].step(Message(MessageType.HEARTBEAT_RESP, 1, 3, 2))
    network[1].step(Message(APP_RESP, 1, 3, 2, index=99, reject=True))
    network.settle()
    progress = network[1].raft.tracker.progress[3]
    progress.enter_probe()
    progress.enter_snapshot(10)
    network[1].report_snapshot(3, arrived)
    assert (progress.state, progress.next, progress.is_paused()) == (ProgressState.PROBE, following, True)
    network[1].report_snapshot(3, arrived)
    assert progress.next == following


def test_a_follower_that_caught_up_otherwise_leaves_the_snapshot_state() -> None:
    network = lagging_follower()
    progress = network[1].raft.tracker.progress[3]
    progress.enter_snapshot(11)
    network[1].step(Message(APP_RESP, 1, 3, 2, index=4))
    assert (progress.state, progress.match) == (ProgressState.REPLICATE, 4)


def _snapshot(index: int, term: int = 2, conf: ConfState = TRIO) -> Message:
    return Message(MessageType.SNAP, 1, 2, 2, snapshot=Snapshot(index, term, conf, b"state"))


def test_a_snapshot_is_ignored_if_it_brings_nothing() -> None:
    node = make_node()
    node.step(_snapshot(1, 1))
    (answer,) = sent(node, APP_RESP)
    assert (answer.index, node.raft.log.unstable.snapshot) == (1, None)


def test_a_snapshot_of_entries_that_are_held_moves_the_commit_index() -> None:
    node = make_node()
    node.step(append_message(Entry(2, 2, b""), Entry(2, 3, b"")))
    node.step(_snapshot(2))
    assert (node.raft.log.committed, node.raft.log.last_index()) == (2, 3)
    assert node.raft.log.unstable.snapshot is None


def test_a_snapshot_without_this_node_is_ignored() -> None:
    node = make_node()
    node.step(_snapshot(9, conf=ConfState((2, 3))))
    assert node.raft.log.last_index() == 1


def test_an_impossible_membership_in_a_snapshot_is_ignored() -> None:
    node = make_node()
    node.step(_snapshot(9, conf=ConfState((1, 2, 3), (), (3,))))
    assert (node.raft.log.last_index(), node.raft.tracker.conf_state()) == (1, ConfState((1, 2, 3)))


def test_a_restored_node_may_not_campaign_before_the_snapshot_is_stored() -> None:
    node = make_node()
    node.step(_snapshot(9, conf=ConfState((1, 2, 3, 4), (), (5,))))
    assert not node.raft.promotable()
    assert node.raft.tracker.conf_state() == ConfState((1, 2, 3, 4), (), (5,))
    ready = node.ready()
    assert ready.snapshot is not None
    assert ready.hard_state == HardState(2, 0, 9)
    node.advance()
    assert node.raft.promotable()
    assert node.raft.log.applied == 9


def test_a_stored_snapshot_counts_in_every_later_term() -> None:
    node = make_node(async_storage_writes=True)
    node.step(_snapshot(9))
    (work,) = node.ready().messages
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 5))
    node.step(work.responses[-1])
    assert (node.raft.log.applied, node.raft.log.unstable.snapshot) == (9, None)
