"""Planted violations: every invariant can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftactors.core.invariants import check_invariants, check_invariants_fully, invariant
from raftactors.core.messages import Message, MessageType
from raftactors.core.progress import ProgressState
from raftactors.core.raft import Raft
from raftactors.core.types import ConfState, Entry, Role
from raftactors.errors import InvariantViolation
from tests.core.network import Network, make_node


def _leader() -> Raft:
    network = Network((1, 2), (3,))
    network.elect(1)
    network.propose(1, b"a", b"b")
    raft = network[1].raft
    check_invariants_fully(raft)
    return raft


def _set(name: str, value: object) -> Callable[[Raft], None]:
    def plant(raft: Raft) -> None:
        *path, last = name.split(".")
        target: object = raft
        for part in path:
            target = getattr(target, part)
        setattr(target, last, value)

    return plant


def _set_progress(name: str, value: object, node_id: int = 2) -> Callable[[Raft], None]:
    return lambda raft: setattr(raft.tracker.progress[node_id], name, value)


def _probe_with_appends_in_flight(raft: Raft) -> None:
    raft.log.append((Entry(2, 5, b""),))
    progress = raft.tracker.progress[2]
    progress.record_append(1, 1)
    progress.state = ProgressState.PROBE


def _switch(conf: ConfState) -> Callable[[Raft], None]:
    return lambda raft: raft.tracker.switch(conf, raft.tracker.progress)


def _commit_without_quorum(raft: Raft) -> None:
    raft.log.append((Entry(2, 5, b""),))
    raft.log.unstable.accept_in_progress()
    raft.tracker.progress[1].match = 5
    raft.log.commit_to(5)


def _commit_without_the_outgoing_quorum(raft: Raft) -> None:
    _commit_without_quorum(raft)
    raft.tracker.progress[2].match = 5
    raft.tracker.switch(ConfState((1, 2), (1, 3)), raft.tracker.progress)


def _commit_by_an_own_promise(raft: Raft) -> None:
    _commit_without_quorum(raft)
    raft.tracker.progress[2].match = 5
    raft.log.unstable.offset_in_progress = 5


def _commit_of_an_earlier_term(raft: Raft) -> None:
    _commit_without_quorum(raft)
    raft.tracker.progress[2].match = 5
    raft.log.unstable.entries[-1] = Entry(1, 5, b"")


def _lead_without_the_own_vote(raft: Raft) -> None:
    raft.term, raft.vote = 3, 2


def _restore_from_the_past(raft: Raft) -> None:
    raft.log.committed = raft.log.applying = raft.log.applied = 3


def _apply_from_the_past(raft: Raft) -> None:
    raft.log.applied = 3


def _apply_what_was_not_written(raft: Raft) -> None:
    raft.log.unstable.entries = list(raft.log.slice(4, 5))
    raft.log.unstable.offset = raft.log.unstable.offset_in_progress = 4


def _say(kind: MessageType, term: int) -> Callable[[Raft], None]:
    return lambda raft: raft.messages.append(Message(kind, 2, 1, term))


def _wait_for_a_read(raft: Raft) -> None:
    raft.read_only.add(Message(MessageType.READ_INDEX, entries=(Entry(0, 0, b"read"),)), 5)


CHEAP = {
    "applied past applying": (_set("log.applied", 9), "out of order"),
    "applying before applied": (_set("log.applying", 1), "out of order"),
    "committed past the log": (_set("log.committed", 9), "out of order"),
    "applied before written": (_apply_what_was_not_written, "applying 4, entries from 4"),
    "in progress before unstable": (_set("log.unstable.offset", 99), "out of order"),
    "term": (_set("term", 1), "the term falls from 2 to 1"),
    "second vote": (_set("vote", 2), "vote of term 2 changes from 1 to 2"),
    "vote taken back": (_set("vote", 0), "vote of term 2 changes from 1 to 0"),
    "vote of a leader": (_lead_without_the_own_vote, "names node 1 and voted for 2"),
    "commit": (_restore_from_the_past, "commit index falls from 4 to 3"),
    "applied": (_apply_from_the_past, "applied index falls from 4 to 3"),
    "commit without quorum": (_commit_without_quorum, r"without a quorum of voters=\(1 2\)"),
    "commit without joint quorum": (_commit_without_the_outgoing_quorum, r"voters=\(1 2\)&&\(1 3\)"),
    "commit by an own promise": (_commit_by_an_own_promise, "entry 5 is committed without a quorum"),
    "commit of an earlier term": (_commit_of_an_earlier_term, "entry 5 is committed, but not of term 2"),
    "leader": (_set("leader_id", 2), "names node 2"),
}
FULL = {
    "timeout": (_set("randomized_election_timeout_ticks", 20), "election timeout 20"),
    "offset": (_set("log.unstable.offset_in_progress", 99), "do not fit"),
    "too many": (lambda raft: raft.log.unstable.entries.append(Entry(2, 7, b"")), "do not end at 4"),
    "gap": (lambda raft: raft.log.append((Entry(2, 7, b""),)), "do not end at 7"),
    "wrong place": (lambda raft: raft.log.append((Entry(2, 6, b""), Entry(2, 6, b""))), "stands at a wrong place"),
    "falling term": (lambda raft: raft.log.append((Entry(1, 5, b""),)), "term falls at index 5"),
    "future term": (lambda raft: raft.log.append((Entry(3, 5, b""),)), "ahead of term 2"),
    "progress": (lambda raft: raft.tracker.progress.pop(3), "others than the members"),
    "both roles": (_switch(ConfState((1, 2), (), (2, 3))), "voter and learner at once"),
    "future learner": (_switch(ConfState((1, 2), (1,), (), (3,))), "no outgoing voter"),
    "auto leave": (_switch(ConfState((1, 2), (), (3,), (), True)), "wants to be left"),
    "counted role": (_set_progress("is_learner", False, node_id=3), "node 3 is counted in a wrong role"),
    "own role": (_set("is_learner", True), "mistakes its own role"),
    "read": (_wait_for_a_read, "waits for 5"),
    "promise": (_say(MessageType.APP_RESP, 2), "APP_RESP to 2 does not wait"),
    "name of a term": (_say(MessageType.APP, 3), "APP to 2 is of term 3"),
    "next": (_set_progress("next", 4), "match 4, next 4"),
    "far next": (_set_progress("next", 6), "sent 6 next"),
    "match": (lambda raft: [_set_progress(name, 90)(raft) for name in ("match", "next")], "match 90, next 90"),
    "far match": (lambda raft: [_set_progress("match", 90)(raft), _set_progress("next", 91)(raft)], "more than its"),
    "told commit": (_set_progress("sent_commit", 5), "ahead of time"),
    "state": (_probe_with_appends_in_flight, "in flight outside"),
    "snapshot": (_set_progress("pending_snapshot", 4), "waits for a snapshot"),
}
FOLLOWER = {
    "leader of the term": (_set("leader_id", 2), "term 2 has two leaders, 1 and 2"),
    "itself": (_set("leader_id", 3), "two leaders"),
    "reads": (_wait_for_a_read, "a follower keeps reads waiting"),
    "uncommitted": (_set("uncommitted_bytes", 7), "a follower counts 7 uncommitted bytes"),
}


@pytest.mark.parametrize(("plant", "text"), CHEAP.values(), ids=CHEAP)
def test_cheap_checks_find_what_is_planted(plant: Callable[[Raft], None], text: str) -> None:
    raft = _leader()
    plant(raft)
    with pytest.raises(InvariantViolation, match=text):
        check_invariants(raft)


@pytest.mark.parametrize(("plant", "text"), FULL.values(), ids=FULL)
def test_full_checks_find_what_is_planted(plant: Callable[[Raft], object], text: str) -> None:
    raft = _leader()
    plant(raft)
    check_invariants(raft)
    with pytest.raises(InvariantViolation, match=text):
        check_invariants_fully(raft)


@pytest.mark.parametrize(("plant", "text"), FOLLOWER.values(), ids=FOLLOWER)
def test_full_checks_of_a_follower_find_what_is_planted(plant: Callable[[Raft], object], text: str) -> None:
    network = Network()
    network.elect(1)
    raft = network[3].raft
    check_invariants_fully(raft)
    plant(raft)
    check_invariants(raft)
    with pytest.raises(InvariantViolation, match=text):
        check_invariants_fully(raft)


@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_candidate_follows_nobody(pre_vote: bool) -> None:
    node = make_node(pre_vote=pre_vote)
    node.campaign()
    check_invariants_fully(node.raft)
    node.raft.leader_id = 2
    with pytest.raises(InvariantViolation, match="candidate follows node 2"):
        check_invariants_fully(node.raft)


def test_a_candidate_votes_for_itself() -> None:
    node = make_node()
    node.raft.term, node.raft.role, node.raft.vote = 3, Role.CANDIDATE, 2
    with pytest.raises(InvariantViolation, match="a candidate of term 3 voted for 2"):
        check_invariants_fully(node.raft)


def test_nobody_leads_unknowingly() -> None:
    node = make_node()
    node.raft.leader_id = 1
    with pytest.raises(InvariantViolation, match="a follower believes that it leads"):
        check_invariants_fully(node.raft)


def test_nothing_is_applied_before_it_is_durable() -> None:
    network = Network(async_storage_writes=True)
    network.elect(1)
    network.propose(1, b"a")
    raft = network[1].raft
    check_invariants_fully(raft)
    log = raft.log
    log.unstable.entries = list(log.slice(3, 4))
    log.unstable.offset = 3
    check_invariants(raft)
    with pytest.raises(InvariantViolation, match="entry 3 is applied, but only entries before 3 are durable"):
        check_invariants_fully(raft)


def test_a_stale_message_is_checked_too() -> None:
    raft = _leader()
    raft.log.applied = 9
    with pytest.raises(InvariantViolation):
        raft.step(Message(MessageType.HEARTBEAT, 1, 2, term=1))


def test_a_follower_transfers_nothing() -> None:
    raft = Network()[1].raft
    raft.transferee_id = 2
    with pytest.raises(InvariantViolation, match="a follower has a leadership transfer under way"):
        check_invariants(raft)


def test_every_input_is_checked() -> None:
    raft = _leader()
    raft.log.applied = 9
    with pytest.raises(InvariantViolation):
        raft.tick()


def test_text_is_formatted_only_when_needed() -> None:
    invariant(True, "%d", "not a number")
    with pytest.raises(InvariantViolation, match="100% of 3"):
        invariant(False, "100%% of %d", 3)
    with pytest.raises(InvariantViolation, match="100%"):
        invariant(False, "100%")


def test_no_handler_of_exceptions_hides_a_violation() -> None:
    assert not issubclass(InvariantViolation, Exception)
