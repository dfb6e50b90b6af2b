"""Snapshots through the actors: when one is taken, what compaction keeps, and the order of an installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from raftactors.actors.consensus_snapshots import compact
from raftactors.actors.mailbox import Mailbox
from raftactors.actors.messages import (
    AppendsDone,
    AppendWork,
    AppliesDone,
    ApplyWork,
    Outbound,
    Restored,
    RestoreWork,
    SaveSnapshot,
    SendSnapshot,
    SnapshotArrived,
    SnapshotEnded,
    SnapshotFrozen,
    SnapshotReports,
    SnapshotTaken,
    TakeSnapshot,
    Tick,
)
from raftactors.actors.restoring import restore_log
from raftactors.actors.snapshot_trigger import RETRY_MS, SnapshotTrigger
from raftactors.app.host import FrozenReplica
from raftactors.config import Limits, Member, NodeConfig
from raftactors.core.confchange_wire import conf_change_entry
from raftactors.core.messages import Message, MessageType
from raftactors.core.progress import ProgressState
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import (
    APPLY_THREAD,
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    HardState,
    Snapshot,
)

from .test_consensus import Rig

MEMBERS = ConfState((1, 2, 3))


def took(box: Mailbox) -> list[Any]:
    return [] if box.empty() else list(box.get().message.messages)


def only(kind: type, messages: list[Any]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


# --- consensus --------------------------------------------------------------------------------------------------------


def follower() -> Rig:
    """Node 1 of three, following node 2 in term 2, with nothing but the first entries."""
    rig = Rig(3)
    rig.tell(Tick())
    rig.work()
    return rig


def arrived(index: int, term: int = 2, conf: ConfState = MEMBERS) -> SnapshotArrived:
    return SnapshotArrived(Message(MessageType.SNAP, 1, 2, 2, snapshot=Snapshot(index, term, conf)))


def test_an_installation_goes_record_then_swap_then_acknowledge() -> None:
    rig = follower()
    rig.took(rig.boxes.transport)
    rig.tell(arrived(50))
    (work,) = only(AppendWork, rig.took(rig.boxes.storage))
    assert work.message.snapshot == Snapshot(50, 2, MEMBERS)
    assert work.message.commit == 50
    assert only(Outbound, rig.took(rig.boxes.transport)) == [], "nothing is acknowledged before the record is durable"
    rig.tell(AppendsDone([work.message]))
    assert only(RestoreWork, rig.took(rig.boxes.application)) == [RestoreWork(Snapshot(50, 2, MEMBERS))]
    assert only(Outbound, rig.took(rig.boxes.transport)) == [], "nor before the application is what it holds"
    rig.tell(Restored(Snapshot(50, 2, MEMBERS)))
    sent = [message for out in only(Outbound, rig.took(rig.boxes.transport)) for message in out.messages]
    assert [(message.type, message.to, message.index) for message in sent] == [(MessageType.APP_RESP, 2, 50)]
    log = rig.actor._log
    assert (log.first_index(), log.last_index(), log.snapshot().index) == (51, 50, 50)
    assert rig.actor._raft.raft.log.applied == 50


def test_appends_behind_a_snapshot_wait_for_its_swap() -> None:
    rig = follower()
    rig.tell(arrived(50))
    (first,) = only(AppendWork, rig.took(rig.boxes.storage))
    append = Message(
        MessageType.APP, 1, 2, 2, log_term=2, index=50, entries=(Entry(2, 51, b"a"), Entry(2, 52, b"b")), commit=52
    )
    rig.tell(SnapshotArrived(append))
    (second,) = only(AppendWork, rig.took(rig.boxes.storage))
    rig.tell(AppendsDone([first.message]))
    rig.tell(AppendsDone([second.message]))
    assert rig.actor._log.last_index() == 3, "the log in memory still is what it was"
    assert only(ApplyWork, rig.took(rig.boxes.application)) == []
    rig.tell(Restored(Snapshot(50, 2, MEMBERS)))
    assert rig.actor._log.last_index() == 52
    (apply,) = only(ApplyWork, rig.took(rig.boxes.application))
    assert [entry.index for entry in apply.message.entries] == [51, 52]


def test_two_snapshots_in_a_short_time() -> None:
    """etcd #18055: the second arrives while the first is being installed."""
    rig = follower()
    rig.tell(arrived(50))
    (first,) = only(AppendWork, rig.took(rig.boxes.storage))
    rig.tell(arrived(70))
    (second,) = only(AppendWork, rig.took(rig.boxes.storage))
    rig.tell(AppendsDone([first.message, second.message]))
    assert only(RestoreWork, rig.took(rig.boxes.application)) == [RestoreWork(Snapshot(50, 2, MEMBERS))]
    rig.tell(Restored(Snapshot(50, 2, MEMBERS)))
    assert only(RestoreWork, rig.took(rig.boxes.application)) == [RestoreWork(Snapshot(70, 2, MEMBERS))]
    rig.tell(Restored(Snapshot(70, 2, MEMBERS)))
    assert rig.actor._log.snapshot().index == 70
    assert rig.actor._raft.raft.log.applied == 70
    # One that is late brings nothing new; the leader is told how far this node is.
    rig.took(rig.boxes.transport)
    rig.tell(arrived(60))
    rig.work()
    assert rig.actor._log.snapshot().index == 70


def test_a_received_membership_stands_above_earlier_changes() -> None:
    rig = follower()
    removal = conf_change_entry(ConfChange(ConfChangeType.REMOVE_NODE, 3))
    applied = Message(MessageType.STORAGE_APPLY, to=APPLY_THREAD, entries=(removal._replace(index=4, term=1),))
    rig.tell(arrived(50))
    rig.tell(AppliesDone([applied]))
    assert rig.actor._raft.raft.tracker.conf_state() == MEMBERS


def leading(size: int = 3, **limits: int) -> Rig:
    """Node 1 leads; the others have acknowledged nothing but their votes."""
    rig = Rig(size, **limits)
    rig.tell(Tick())
    rig.work()
    raft = rig.actor._raft.raft
    rig.actor._raft.campaign()
    rig.tell(Tick())
    rig.work()
    for node in range(2, size + 1):
        rig.tell(SnapshotArrived(Message(MessageType.VOTE_RESP, 1, node, raft.term)))
    rig.work()
    return rig


def test_a_frozen_replica_gets_the_membership_of_its_index() -> None:
    rig = leading(1)
    index = rig.actor._raft.raft.log.applied
    frozen = SnapshotFrozen(FrozenReplica(index, 2, iter([b"state"])))
    rig.tell(frozen)
    (save,) = only(SaveSnapshot, took(rig.boxes.snapshot_writer))
    assert save.snapshot == Snapshot(index, 2, ConfState((1,)))
    rig.tell(SnapshotTaken(save.snapshot))
    assert rig.actor._log.snapshot() == save.snapshot
    rig.took(rig.boxes.application)
    rig.tell(frozen)
    assert only(SnapshotEnded, rig.took(rig.boxes.application))[0].error, "it is not newer"


def test_a_member_behind_the_log_is_given_the_snapshot_and_every_outcome_reaches_the_core() -> None:
    rig = with_compacted_log()
    raft = rig.actor._raft.raft
    progress = raft.tracker.progress[2]
    rig.tell(heartbeat_answer(rig))
    (work,) = only(SendSnapshot, took(rig.boxes.snapshot_transfer))
    assert (work.message.to, work.message.snapshot.index) == (2, 3)
    states = [progress.state]
    rig.tell(SnapshotReports([(2, False)]))
    states.append(progress.state)
    assert states == [ProgressState.SNAPSHOT, ProgressState.PROBE]
    assert progress.next == 1
    rig.tell(heartbeat_answer(rig))
    assert len(only(SendSnapshot, took(rig.boxes.snapshot_transfer))) == 1
    rig.tell(SnapshotReports([(2, True)]))
    assert (progress.state, progress.next) == (ProgressState.PROBE, 4)


def heartbeat_answer(rig: Rig) -> SnapshotArrived:
    return SnapshotArrived(Message(MessageType.HEARTBEAT_RESP, 1, 2, rig.actor._raft.raft.term))


PAIR = ConfState((1, 2))


def with_compacted_log(conf: ConfState = PAIR, address: str = "127.0.0.1:9") -> Rig:
    """A leader of two whose log begins behind its snapshot, and a follower that has nothing of it."""
    rig = leading(2)
    config = rig.actor._config
    members = tuple(
        Member(
            node_id=member.node_id,
            peer_address=member.peer_address,
            client_address=member.client_address,
            snapshot_address=address,
        )
        for member in config.members
    )
    rig.actor._snapshots._config = NodeConfig(cluster_id=7, node_id=1, data_dir=Path("x"), members=members)
    rig.actor._log.create_snapshot(3, conf, b"")
    rig.actor._log.compact(3)
    progress = rig.actor._raft.raft.tracker.progress[2]
    progress.next, progress.flow_paused, progress.recent_active = 1, False, True
    took(rig.boxes.snapshot_transfer)
    rig.took(rig.boxes.application)
    return rig


def test_a_snapshot_that_does_not_know_the_member_is_not_sent() -> None:
    rig = with_compacted_log(ConfState((1,)))
    rig.tell(heartbeat_answer(rig))
    assert only(SendSnapshot, took(rig.boxes.snapshot_transfer)) == []
    assert TakeSnapshot() in rig.took(rig.boxes.application)
    assert rig.actor._raft.raft.tracker.progress[2].state is ProgressState.PROBE


def test_without_an_address_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = with_compacted_log(address="")
    for _ in range(3):
        rig.tell(heartbeat_answer(rig))
    assert only(SendSnapshot, took(rig.boxes.snapshot_transfer)) == []
    assert caplog.text.count("snapshot_address") == 1


# --- what compaction keeps --------------------------------------------------------------------------------------------


def log_of(count: int, size: int = 100) -> MemoryStorage:
    log = MemoryStorage()
    log.append([Entry(1, index, bytes(size)) for index in range(1, count + 1)])
    return log


@pytest.mark.parametrize(
    ("trailing", "trailing_bytes", "pinned", "snapshot_bytes", "first"),
    [
        (10, 10**6, 80, 10**6, 71),
        (10, 550, 80, 10**6, 76),
        (1, 1, 80, 10**6, 81),
        (10, 10**6, 30, 10**6, 31),
        (10, 1_000, 30, 2_000, 61),
        (200, 10**6, 80, 10**6, 1),
    ],
)
def test_compaction_keeps_what_the_limits_allow(
    trailing: int, trailing_bytes: int, pinned: int, snapshot_bytes: int, first: int
) -> None:
    log = log_of(100)
    limits = Limits(trailing_entries=trailing, trailing_bytes=trailing_bytes, snapshot_bytes=snapshot_bytes)
    compact(log, 80, limits, pinned=pinned)
    assert (log.first_index(), log.last_index()) == (first, 100)


def test_the_log_after_a_start_has_its_trailing_entries() -> None:
    class Opened:
        """What a data folder holds."""

        def __init__(self, base: tuple[int, int]) -> None:
            self.hard_state = HardState(1, 1, 90)
            self.entries = [Entry(1, index, b"x") for index in range(41, 101)]
            self.base = type("Base", (), {"term": base[0], "index": base[1]})()

    members = (Member(node_id=1, peer_address="h:1", client_address="h:2"),)
    config = NodeConfig(cluster_id=7, node_id=1, data_dir=Path("x"), members=members, limits=Limits(trailing_entries=7))
    snapshot = Snapshot(80, 1, MEMBERS)
    known = restore_log(config, cast(Any, Opened((1, 40))), snapshot)
    assert (known.first_index(), known.last_index(), known.snapshot()) == (74, 100, snapshot)
    unknown = restore_log(config, cast(Any, Opened((0, 40))), snapshot)
    assert (unknown.first_index(), unknown.last_index(), unknown.term(80)) == (81, 100, 1)


# --- when a snapshot is taken -----------------------------------------------------------------------------------------


def entries(count: int, size: int = 10) -> list[Entry]:
    return [Entry(1, index, bytes(size)) for index in range(1, count + 1)]


def test_entries_bytes_and_wishes_trigger() -> None:
    limits = Limits(snapshot_entries=5, snapshot_bytes=1_000)
    trigger = SnapshotTrigger(limits, index=0, tick_ms=100)
    trigger.count(entries(4))
    assert not trigger.is_due(4)
    trigger.count(entries(1))
    assert trigger.is_due(5)
    trigger.begin()
    trigger.count(entries(100))
    assert not trigger.is_due(105), "one at a time"
    assert trigger.end(5, failed=False) == []
    assert trigger.is_due(105)
    trigger.begin()
    trigger.end(105, failed=False)
    trigger.count(entries(1, 1_000))
    assert trigger.is_due(106)
    trigger.begin()
    trigger.end(106, failed=False)
    trigger.want()
    assert not trigger.is_due(106), "nothing new"
    assert trigger.is_due(107)


def test_a_failed_snapshot_is_tried_again_later() -> None:
    trigger = SnapshotTrigger(Limits(snapshot_entries=1), index=0, tick_ms=100)
    trigger.count(entries(1))
    trigger.begin()
    trigger.end(1, failed=True)
    for _ in range(RETRY_MS // 100):
        assert not trigger.is_due(2)
        trigger.tick()
    assert trigger.is_due(2)


def test_who_asks_waits_for_a_snapshot_that_was_frozen_afterwards() -> None:
    trigger = SnapshotTrigger(Limits(), index=0, tick_ms=100)
    trigger.ask(1)
    assert trigger.is_due(3)
    trigger.begin()
    trigger.ask(2)
    assert trigger.end(3, failed=False) == [1]
    assert trigger.take_needless(3) == [2]
    trigger.ask(3)
    assert trigger.take_needless(4) == []
    assert trigger.is_due(4)
