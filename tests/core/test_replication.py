"""Appends, commits, flow control and snapshots (feature rows A11 to A18)."""

from __future__ import annotations

from typing import Any

import pytest

from raftactors.core.messages import Message, MessageType
from raftactors.core.progress import ProgressState
from raftactors.core.types import ConfState, Entry, Role
from raftactors.errors import ProposalDropped
from tests.core.network import Network, append_message, lagging_follower, make_node, sent

APP, APP_RESP = MessageType.APP, MessageType.APP_RESP
TRIO = ConfState((1, 2, 3))


def _answer(message: Message, **options: Any) -> Message:
    node = make_node(**options)
    node.step(message)
    (answer,) = sent(node, APP_RESP)
    return answer


@pytest.mark.parametrize("asynchronous", [False, True])
def test_commands_are_applied_everywhere_in_one_order(asynchronous: bool) -> None:
    network = Network((1, 2, 3), (4,), async_storage_writes=asynchronous)
    network.elect(2)
    network.propose(2, b"a", b"b")
    network.propose(1, b"c")
    network.tick(1)
    assert [member.commands() for member in network.members.values()] == [[b"a", b"b", b"c"]] * 4


def test_a_new_leader_appends_an_empty_entry() -> None:
    network = Network()
    network.elect(1)
    assert network.members[2].applied == [Entry(2, 2, None)]


def test_the_leader_counts_itself_only_when_its_disk_has_answered() -> None:
    network = Network((1, 2), async_storage_writes=True)
    network.elect(1)
    network.stalled.add(1)
    network.propose(1, b"a")
    raft = network[1].raft
    assert (raft.tracker.progress[2].match, raft.tracker.progress[1].match, raft.log.committed) == (3, 2, 2)
    network.stalled.clear()
    network.settle()
    assert raft.log.committed == 3


def test_entries_of_an_earlier_term_are_committed_only_with_one_of_the_own() -> None:
    network = Network()
    network.elect(1)
    network.isolate(1)
    network.propose(1, b"old")
    network.heal()
    network.cut = {(2, 1), (3, 1)}
    network[1].campaign()
    assert network[1].raft.role is Role.LEADER
    raft = network[1].raft
    raft.become_follower(4, 0)
    raft.become_candidate()
    raft.become_leader()
    own = raft.log.last_index()
    raft.log.unstable.accept_in_progress()
    for node_id in (1, 2):
        raft.step(Message(APP_RESP, 1, node_id, raft.term, index=own - 1))
    assert raft.log.committed == 2
    for node_id in (1, 2):
        raft.step(Message(APP_RESP, 1, node_id, raft.term, index=own))
    assert raft.log.committed == own


# --- the follower's side --------------------------------------------------------------------------------------------


def test_append_is_acknowledged_up_to_its_last_entry() -> None:
    answer = _answer(append_message(Entry(2, 2, b""), Entry(2, 3, b""), commit=2))
    assert (answer.index, answer.reject, answer.term) == (3, False, 2)


def test_append_before_the_commit_index_is_acknowledged_as_committed() -> None:
    answer = _answer(append_message(Entry(1, 1, b""), index=0, log_term=0))
    assert (answer.index, answer.reject) == (1, False)


def test_rejection_names_the_last_entry_that_may_agree() -> None:
    node = make_node()
    node.step(append_message(Entry(2, 2, b""), Entry(2, 3, b""), Entry(4, 4, b""), term=4))
    sent(node)
    node.step(append_message(Entry(5, 9, b""), term=5, log_term=3, index=8))
    (answer,) = sent(node, APP_RESP)
    assert (answer.index, answer.reject, answer.reject_hint, answer.log_term) == (8, True, 3, 2)


def test_a_duplicate_append_truncates_nothing() -> None:
    node = make_node()
    node.step(append_message(Entry(2, 2, b"a"), Entry(2, 3, b"b")))
    node.step(append_message(Entry(2, 2, b"a")))
    assert node.raft.log.last_index() == 3
    node.step(append_message(Entry(3, 2, b"c"), term=3))
    assert (node.raft.log.last_index(), node.raft.log.last_term()) == (2, 3)


def test_commit_goes_no_further_than_the_new_entries() -> None:
    node = make_node()
    node.step(append_message(Entry(2, 2, b""), Entry(2, 3, b"")))
    node.step(append_message(Entry(2, 2, b""), commit=3))
    assert node.raft.log.committed == 2


@pytest.mark.parametrize(
    "entries",
    [
        (Entry(2, 3, b""),),
        (Entry(2, 2, b""), Entry(2, 4, b"")),
        (Entry(3, 2, b""),),
        (Entry(2, 2, b""), Entry(1, 3, b"")),
    ],
)
def test_malformed_appends_are_dropped(entries: tuple[Entry, ...]) -> None:
    node = make_node()
    node.step(append_message(*entries))
    assert (node.raft.log.last_index(), sent(node, APP_RESP)) == (1, [])


def test_a_commit_index_behind_the_log_does_not_kill() -> None:
    node = make_node()
    node.step(Message(MessageType.HEARTBEAT, 1, 2, 2, commit=50))
    assert node.raft.log.committed == 1
    assert [message.type for message in sent(node)] == [MessageType.HEARTBEAT_RESP]


# --- the leader's side ----------------------------------------------------------------------------------------------


def test_a_lagging_follower_catches_up_at_the_next_heartbeat() -> None:
    network = lagging_follower(bytes_per_message_max=30)
    network.heal()
    network.tick(2)
    assert network.members[3].commands() == network.members[1].commands()
    assert network[1].raft.tracker.progress[3].state is ProgressState.REPLICATE


def test_conflicting_entries_are_replaced() -> None:
    network = Network()
    network.elect(1)
    network.isolate(1)
    for command in (b"lost 1", b"lost 2", b"lost 3"):
        network.propose(1, command)
    network.elect(2)
    network.propose(2, b"kept")
    network.heal()
    network.tick(3)
    assert [member.commands() for member in network.members.values()] == [[b"kept"]] * 3


def test_whole_terms_are_skipped_while_probing() -> None:
    network = Network()
    network.elect(1)
    network.isolate(1)
    for _ in range(200):
        network[1].propose(b"lost")
    network.settle()
    network.elect(2)
    network.propose(2, *[b"kept"] * 50)
    network.heal()
    rejections = 0
    deliver = network.deliver

    def counting(message: Message) -> None:
        nonlocal rejections
        rejections += message.type is APP_RESP and message.reject
        deliver(message)

    network.deliver = counting  # type: ignore[method-assign]
    network.tick(3)
    assert network[1].raft.log.last_index() == network[2].raft.log.last_index()
    assert rejections <= 2


def test_the_window_pauses_and_a_heartbeat_response_lets_one_probe_through() -> None:
    network = Network(inflight_messages_max=2)
    network.elect(1)
    network.cut = {(1, 3)}
    for command in (b"a", b"b", b"c", b"d"):
        network.propose(1, command)
    progress = network[1].raft.tracker.progress[3]
    assert (progress.inflights.count, progress.is_paused()) == (2, True)
    network[1].step(Message(MessageType.HEARTBEAT_RESP, 1, 3, 2))
    assert [(message.to, message.entries) for message in sent(network[1], APP)] == [(3, ())]
    network.heal()
    network.tick(2)
    assert network.members[3].commands() == [b"a", b"b", b"c", b"d"]


def test_the_window_is_bounded_in_bytes() -> None:
    network = Network(inflight_bytes_max=100, bytes_per_message_max=100)
    network.elect(1)
    network.cut = {(1, 3)}
    for _ in range(5):
        network.propose(1, b"x" * 60)
    assert network[1].raft.tracker.progress[3].inflights.count == 2


def test_an_unreachable_follower_is_probed() -> None:
    network = Network()
    network.elect(1)
    network[1].report_unreachable(3)
    assert network[1].raft.tracker.progress[3].state is ProgressState.PROBE


def test_a_heartbeat_names_only_what_the_follower_holds() -> None:
    network = lagging_follower()
    network[1].tick()
    commits = {message.to: message.commit for message in sent(network[1], MessageType.HEARTBEAT)}
    assert commits == {2: 12, 3: 2}


def test_an_acknowledgement_behind_the_log_is_dropped() -> None:
    network = Network()
    network.elect(1)
    network[1].step(Message(APP_RESP, 1, 2, 2, index=99))
    assert network[1].raft.tracker.progress[2].match == 2


# --- proposals ------------------------------------------------------------------------------------------------------


def test_proposals_are_dropped_where_nobody_leads() -> None:
    node = make_node()
    with pytest.raises(ProposalDropped, match="no leader"):
        node.propose(b"x")
    node.campaign()
    with pytest.raises(ProposalDropped, match="no leader"):
        node.propose(b"x")


def test_forwarding_can_be_switched_off() -> None:
    network = Network(disable_proposal_forwarding=True)
    network.elect(1)
    with pytest.raises(ProposalDropped, match="node 1"):
        network[2].propose(b"x")


def test_a_forwarded_proposal_keeps_its_origin() -> None:
    node = make_node()
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 2))
    node.step(Message(MessageType.PROP, 1, 2, entries=(Entry(0, 0, b"x"),)))
    node.propose(b"y")
    assert [(m.to, m.sender, m.term) for m in sent(node, MessageType.PROP)] == [(3, 2, 0), (3, 1, 0)]


def test_the_uncommitted_tail_is_bounded() -> None:
    network = Network(uncommitted_bytes_max=100)
    network.elect(1)
    network.isolate(1)
    network.propose(1, b"x" * 150)
    with pytest.raises(ProposalDropped, match="150 bytes"):
        network[1].propose(b"y")
    network[1].propose(b"")
    assert network[1].raft.uncommitted_bytes == 150
    network.heal()
    network.tick(2)
    assert network[1].raft.uncommitted_bytes == 0
    network.propose(1, b"y")
    assert network.members[3].commands() == [b"x" * 150, b"y"]


def test_a_proposal_without_an_entry_is_dropped() -> None:
    network = Network()
    network.elect(1)
    with pytest.raises(ProposalDropped):
        network[1].step(Message(MessageType.PROP, 1, 2))
