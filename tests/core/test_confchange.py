"""Membership arithmetic (feature row A20)."""

from __future__ import annotations

import random

import pytest

from raftactors.core.confchange import ChangeKind, Changer, as_v2, change_kind
from raftactors.core.inflights import Inflights
from raftactors.core.progress import Progress
from raftactors.core.tracker import Tracker
from raftactors.core.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
)
from raftactors.errors import ConfChangeError

ADD, REMOVE, UPDATE, LEARN = (
    ConfChangeType.ADD_NODE,
    ConfChangeType.REMOVE_NODE,
    ConfChangeType.UPDATE_NODE,
    ConfChangeType.ADD_LEARNER,
)


def _tracker(conf: ConfState) -> Tracker:
    tracker = Tracker(10, 100)
    tracker.switch(*Changer(tracker, 5).restore(conf))
    return tracker


def _steps(*steps: tuple[ConfChangeType, int]) -> list[ConfChangeSingle]:
    return [ConfChangeSingle(kind, node_id) for kind, node_id in steps]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (ConfChangeV2(), ChangeKind.LEAVE_JOINT),
        (ConfChangeV2(context=b"x"), ChangeKind.LEAVE_JOINT),
        (ConfChangeV2(transition=ConfChangeTransition.JOINT_EXPLICIT), ChangeKind.ENTER_JOINT),
        (ConfChangeV2(tuple(_steps((ADD, 1)))), ChangeKind.SIMPLE),
        (ConfChangeV2(tuple(_steps((ADD, 1), (ADD, 2)))), ChangeKind.ENTER_JOINT),
        (ConfChangeV2(tuple(_steps((ADD, 1))), ConfChangeTransition.JOINT_IMPLICIT), ChangeKind.ENTER_JOINT),
        (as_v2(ConfChange(REMOVE, 3)), ChangeKind.SIMPLE),
    ],
)
def test_kind_of_a_change(change: ConfChangeV2, kind: ChangeKind) -> None:
    assert change_kind(change) is kind


def test_the_older_form_says_the_same() -> None:
    assert as_v2(ConfChange(LEARN, 4, b"ctx", 9)) == ConfChangeV2((ConfChangeSingle(LEARN, 4),), context=b"ctx")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(ADD, 4)], ConfState((1, 2, 4), (), (3,))),
        ([(ADD, 3)], ConfState((1, 2, 3))),
        ([(REMOVE, 2)], ConfState((1,), (), (3,))),
        ([(LEARN, 2)], ConfState((1,), (), (2, 3))),
        ([(LEARN, 5), (REMOVE, 3)], ConfState((1, 2), (), (5,))),
        ([(ADD, 1), (LEARN, 3), (UPDATE, 2), (REMOVE, 9), (ADD, 0)], ConfState((1, 2), (), (3,))),
        ([(ADD, 4), (REMOVE, 4)], ConfState((1, 2), (), (3,))),
    ],
)
def test_simple(steps: list[tuple[ConfChangeType, int]], expected: ConfState) -> None:
    conf, progress = Changer(_tracker(ConfState((1, 2), (), (3,))), 9).simple(_steps(*steps))
    assert conf == expected
    assert list(progress) == sorted({*conf.voters, *conf.learners})
    assert [i for i, known in progress.items() if known.is_learner] == list(conf.learners)


def test_a_new_member_is_probed_from_the_last_index_and_counts_as_active() -> None:
    _, progress = Changer(_tracker(ConfState((1,))), 9).simple(_steps((ADD, 2)))
    new = progress[2]
    assert (new.match, new.next, new.recent_active, new.inflights.messages_max) == (0, 9, True, 10)
    _, progress = Changer(_tracker(ConfState((1,))), 0).simple(_steps((ADD, 2)))
    assert progress[2].next == 1


def test_promotion_keeps_what_is_known_and_leaves_the_tracker_alone() -> None:
    tracker = _tracker(ConfState((1,), (), (2,)))
    tracker.progress[2].match = 4
    conf, progress = Changer(tracker, 9).simple(_steps((ADD, 2)))
    assert (conf, progress[2].match, progress[2].is_learner) == (ConfState((1, 2)), 4, False)
    assert tracker.progress[2].is_learner
    assert tracker.conf_state() == ConfState((1,), (), (2,))


@pytest.mark.parametrize(
    ("conf", "steps", "text"),
    [
        (ConfState((1,)), [(REMOVE, 1)], "removed all voters"),
        (ConfState((1,)), [(LEARN, 1)], "removed all voters"),
        (ConfState((1,)), [(ADD, 2), (ADD, 3)], "more than one voter changed without entering joint config"),
        (ConfState((1, 2)), [(ADD, 3), (REMOVE, 1)], "more than one voter changed without entering joint config"),
        (ConfState((1,), (2,)), [(ADD, 3)], "can't apply simple config change in joint config"),
    ],
)
def test_impossible_simple_changes(conf: ConfState, steps: list[tuple[ConfChangeType, int]], text: str) -> None:
    with pytest.raises(ConfChangeError, match=f"^{text}$"):
        Changer(_tracker(conf), 9).simple(_steps(*steps))


def test_joint_round_trip_demotes_at_the_end() -> None:
    tracker = _tracker(ConfState((1, 2, 3)))
    joint, progress = Changer(tracker, 9).enter_joint(True, _steps((ADD, 4), (LEARN, 3), (REMOVE, 2), (LEARN, 5)))
    assert joint == ConfState((1, 4), (1, 2, 3), (5,), (3,), True)
    assert not progress[3].is_learner
    tracker.switch(joint, progress)
    left, progress = Changer(tracker, 9).leave_joint()
    assert left == ConfState((1, 4), (), (3, 5))
    assert list(progress) == [1, 3, 4, 5]
    assert progress[3].is_learner


def test_impossible_joint_changes() -> None:
    with pytest.raises(ConfChangeError, match=r"^config is already joint$"):
        Changer(_tracker(ConfState((1,), (2,))), 9).enter_joint(False, [])
    with pytest.raises(ConfChangeError, match=r"^can't make a zero-voter config joint$"):
        Changer(_tracker(ConfState()), 9).enter_joint(False, _steps((ADD, 1)))
    with pytest.raises(ConfChangeError, match=r"^can't leave a non-joint config$"):
        Changer(_tracker(ConfState((1,))), 9).leave_joint()
    with pytest.raises(ConfChangeError, match=r"^removed all voters$"):
        Changer(_tracker(ConfState((1,))), 9).enter_joint(False, _steps((REMOVE, 1)))


@pytest.mark.parametrize("explicit", [True, False])
def test_change_leaves_by_itself_unless_told_not_to(explicit: bool) -> None:
    transition = ConfChangeTransition.JOINT_EXPLICIT if explicit else ConfChangeTransition.AUTO
    change = ConfChangeV2(tuple(_steps((ADD, 2), (ADD, 3))), transition)
    conf, _ = Changer(_tracker(ConfState((1,))), 9).change(change)
    assert conf == ConfState((1, 2, 3), (1,), auto_leave=not explicit)


@pytest.mark.parametrize(
    "conf",
    [
        ConfState((0, 1)),
        ConfState((), (), (1,)),
        ConfState((), (1,)),
        ConfState((1, 2), (), (2,)),
        ConfState((1,), (), (), (2,)),
        ConfState((1, 2), (2,), (), (2,)),
        ConfState((1,), auto_leave=True),
    ],
)
def test_memberships_that_no_change_leads_to_are_refused(conf: ConfState) -> None:
    with pytest.raises(ConfChangeError):
        Changer(Tracker(10, 100), 9).restore(conf)


@pytest.mark.parametrize("seed", range(30))
def test_every_reachable_membership_can_be_restored(seed: int) -> None:
    rng = random.Random(seed)
    tracker = Tracker(10, 100)
    tracker.switch(*Changer(tracker, 5).simple(_steps((ADD, 1))))
    reached = 0
    for _ in range(150):
        steps = tuple(
            ConfChangeSingle(rng.choice(tuple(ConfChangeType)), rng.randrange(6)) for _ in range(rng.randrange(4))
        )
        change = ConfChangeV2(steps, rng.choice(tuple(ConfChangeTransition)))
        try:
            conf, progress = Changer(tracker, 5).change(change)
        except ConfChangeError:
            continue
        reached += 1
        tracker.switch(conf, progress)
        restored, fresh = Changer(Tracker(10, 100), 5).restore(conf)
        assert restored == conf
        assert {i: known.is_learner for i, known in fresh.items()} == {i: k.is_learner for i, k in progress.items()}
    assert reached > 3


def test_tracker_keeps_ascending_order_and_finds_single_voters() -> None:
    tracker = Tracker(10, 100)
    tracker.switch(ConfState((2,), (), (1,)), {2: Progress(next=1, inflights=Inflights(1)), 1: tracker_learner()})
    assert (list(tracker.progress), tracker.voter_ids, tracker.is_singleton) == ([1, 2], (2,), True)
    tracker.switch(ConfState((2,), (1,)), dict(tracker.progress))
    assert (tracker.voter_ids, tracker.is_singleton) == ((1, 2), False)


def tracker_learner() -> Progress:
    return Progress(next=1, inflights=Inflights(1), is_learner=True)


def test_tracker_counts_voters_only() -> None:
    tracker = _tracker(ConfState((1, 2, 3), (), (4,)))
    for node_id, match in ((1, 5), (2, 3), (3, 0), (4, 9)):
        tracker.progress[node_id].match = match
    assert tracker.committed_index() == 3
    for progress in tracker.progress.values():
        progress.recent_active = False
    tracker.progress[1].recent_active = tracker.progress[4].recent_active = True
    assert not tracker.quorum_active()
    tracker.progress[3].recent_active = True
    assert tracker.quorum_active()


def test_the_first_vote_of_a_node_stands() -> None:
    tracker = _tracker(ConfState((1, 2, 3)))
    tracker.record_vote(1, True)
    tracker.record_vote(1, False)
    assert tracker.votes == {1: True}
