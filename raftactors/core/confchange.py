"""Membership arithmetic: what a change makes of a membership (thesis chapter 4).

A membership changes by at most one voter in a simple step. Everything else goes through a joint configuration, in
which both the old voters (the outgoing half) and the new ones (the incoming half) must agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from raftactors.core.progress import Progress
from raftactors.core.tracker import Tracker
from raftactors.core.types import (
    NONE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
)
from raftactors.errors import ConfChangeError


class ChangeKind(Enum):
    """How a change is carried out."""

    SIMPLE = "simple"
    ENTER_JOINT = "enter_joint"
    LEAVE_JOINT = "leave_joint"


def as_v2(change: ConfChange | ConfChangeV2) -> ConfChangeV2:
    """The same change in the newer form."""
    if isinstance(change, ConfChangeV2):
        return change
    return ConfChangeV2(changes=(ConfChangeSingle(change.type, change.node_id),), context=change.context)


def change_kind(change: ConfChangeV2) -> ChangeKind:
    """An automatic change without steps leaves; several steps, or a transition that is asked for, enter."""
    if change.transition is ConfChangeTransition.AUTO and len(change.changes) <= 1:
        return ChangeKind.SIMPLE if change.changes else ChangeKind.LEAVE_JOINT
    return ChangeKind.ENTER_JOINT


class _Draft:
    """A membership under construction: sets instead of sorted tuples, and a map of progress that may be changed."""

    def __init__(self, conf: ConfState, progress: Mapping[int, Progress]) -> None:
        self.voters = set(conf.voters)
        self.outgoing = set(conf.voters_outgoing)
        self.learners = set(conf.learners)
        self.learners_next = set(conf.learners_next)
        self.auto_leave = conf.auto_leave
        # The caller's progress stays as it is until the new membership is switched to.
        self.progress = {node_id: known.copy() for node_id, known in progress.items()}

    def finish(self) -> tuple[ConfState, dict[int, Progress]]:
        conf = ConfState(
            voters=tuple(sorted(self.voters)),
            voters_outgoing=tuple(sorted(self.outgoing)),
            learners=tuple(sorted(self.learners)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=self.auto_leave,
        )
        return conf, {node_id: self.progress[node_id] for node_id in sorted(self.progress)}


class Changer:
    """Computes the membership after a change; the tracker itself is left alone.

    Each method returns the new membership and the progress of its members, and raises ConfChangeError if the change
    is impossible. A new member is probed from `last_index` on and counts as recently active, so that the check of
    the quorum does not depose the leader before the member could answer.
    """

    def __init__(self, tracker: Tracker, last_index: int) -> None:
        self._tracker = tracker
        self._last_index = last_index

    def simple(self, changes: Iterable[ConfChangeSingle]) -> tuple[ConfState, dict[int, Progress]]:
        """Change at most one voter, and any number of learners, in one step."""
        conf = self._tracker.conf_state()
        if conf.voters_outgoing:
            raise ConfChangeError("can't apply simple config change in joint config")
        draft = self._draft(conf)
        self._apply(draft, changes)
        if len(draft.voters.symmetric_difference(conf.voters)) > 1:
            raise ConfChangeError("more than one voter changed without entering joint config")
        return draft.finish()

    def enter_joint(
        self, auto_leave: bool, changes: Iterable[ConfChangeSingle]
    ) -> tuple[ConfState, dict[int, Progress]]:
        """Keep the present voters as the outgoing half, and carry the changes out on the incoming one."""
        conf = self._tracker.conf_state()
        if conf.voters_outgoing:
            raise ConfChangeError("config is already joint")
        if not conf.voters:
            raise ConfChangeError("can't make a zero-voter config joint")
        draft = self._draft(conf)
        draft.outgoing = set(conf.voters)
        self._apply(draft, changes)
        draft.auto_leave = auto_leave
        return draft.finish()

    def leave_joint(self) -> tuple[ConfState, dict[int, Progress]]:
        """Drop the outgoing half; its voters that were demoted become learners now."""
        conf = self._tracker.conf_state()
        if not conf.voters_outgoing:
            raise ConfChangeError("can't leave a non-joint config")
        draft = self._draft(conf)
        for node_id in draft.learners_next:
            draft.learners.add(node_id)
            draft.progress[node_id].is_learner = True
        draft.learners_next = set()
        for node_id in draft.outgoing - draft.voters - draft.learners:
            del draft.progress[node_id]
        draft.outgoing = set()
        draft.auto_leave = False
        return draft.finish()

    def change(self, change: ConfChangeV2) -> tuple[ConfState, dict[int, Progress]]:
        """Carry out a whole change in the way that it asks for."""
        kind = change_kind(change)
        if kind is ChangeKind.LEAVE_JOINT:
            return self.leave_joint()
        if kind is ChangeKind.ENTER_JOINT:
            return self.enter_joint(change.transition is not ConfChangeTransition.JOINT_EXPLICIT, change.changes)
        return self.simple(change.changes)

    def restore(self, conf: ConfState) -> tuple[ConfState, dict[int, Progress]]:
        """Build the membership of a snapshot or of a stored state, with fresh progress.

        Raises ConfChangeError if no series of changes could have led to it.
        """
        _check_consistent(conf)
        draft = self._draft(ConfState())
        draft.voters, draft.outgoing = set(conf.voters), set(conf.voters_outgoing)
        draft.learners, draft.learners_next = set(conf.learners), set(conf.learners_next)
        draft.auto_leave = conf.auto_leave
        draft.progress = {
            node_id: self._new_progress(is_learner=node_id in draft.learners)
            for node_id in draft.voters | draft.outgoing | draft.learners
        }
        return draft.finish()

    def _draft(self, conf: ConfState) -> _Draft:
        return _Draft(conf, self._tracker.progress)

    def _new_progress(self, *, is_learner: bool) -> Progress:
        return Progress(
            next=max(self._last_index, 1),
            inflights=self._tracker.new_inflights(),
            is_learner=is_learner,
            recent_active=True,
        )

    def _apply(self, draft: _Draft, changes: Iterable[ConfChangeSingle]) -> None:
        for change in changes:
            if change.node_id == NONE:
                continue
            if change.type is ConfChangeType.ADD_NODE:
                self._make_voter(draft, change.node_id)
            elif change.type is ConfChangeType.ADD_LEARNER:
                self._make_learner(draft, change.node_id)
            elif change.type is ConfChangeType.REMOVE_NODE:
                self._remove(draft, change.node_id)
            # An update changes only what the application knows of the node.
        if not draft.voters:
            raise ConfChangeError("removed all voters")

    def _make_voter(self, draft: _Draft, node_id: int) -> None:
        progress = draft.progress.get(node_id)
        if progress is None:
            draft.progress[node_id] = self._new_progress(is_learner=False)
        else:
            progress.is_learner = False
            draft.learners.discard(node_id)
            draft.learners_next.discard(node_id)
        draft.voters.add(node_id)

    def _make_learner(self, draft: _Draft, node_id: int) -> None:
        progress = draft.progress.get(node_id)
        if progress is None:
            draft.progress[node_id] = self._new_progress(is_learner=True)
            draft.learners.add(node_id)
            return
        if progress.is_learner:
            return
        draft.voters.discard(node_id)
        if node_id in draft.outgoing:
            # Still a voter of the other half: it becomes a learner when the joint configuration is left.
            draft.learners_next.add(node_id)
        else:
            progress.is_learner = True
            draft.learners.add(node_id)

    def _remove(self, draft: _Draft, node_id: int) -> None:
        draft.voters.discard(node_id)
        draft.learners.discard(node_id)
        draft.learners_next.discard(node_id)
        if node_id not in draft.outgoing:
            draft.progress.pop(node_id, None)


def _check_consistent(conf: ConfState) -> None:
    """Raise ConfChangeError unless the sets of a foreign membership fit together."""
    voters = {*conf.voters, *conf.voters_outgoing}
    joint = bool(conf.voters_outgoing)
    if NONE in voters or NONE in conf.learners or NONE in conf.learners_next:
        raise ConfChangeError("node id 0 cannot be a member")
    if not conf.voters and (joint or conf.learners):
        raise ConfChangeError("a membership needs a voter")
    if voters.intersection(conf.learners):
        raise ConfChangeError("a node is voter and learner at once")
    if not set(conf.learners_next) <= set(conf.voters_outgoing) - set(conf.voters):
        raise ConfChangeError("only an outgoing voter can be a future learner")
    if conf.auto_leave and not joint:
        raise ConfChangeError("a membership that is not joint cannot be left")
