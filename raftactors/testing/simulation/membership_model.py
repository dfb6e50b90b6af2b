"""Membership arithmetic once more, in the dullest way: the oracle's own idea of who is a member."""

from __future__ import annotations

from collections.abc import Callable, Collection

from raftactors.core.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
)


def change_membership(conf: ConfState, change: ConfChange | ConfChangeV2) -> ConfState:
    """The membership after a committed change; the same one if the change is impossible (thesis sections 4.1, 4.3)."""
    if isinstance(change, ConfChange):
        change = ConfChangeV2((ConfChangeSingle(change.type, change.node_id),))
    joint = bool(conf.voters_outgoing)
    automatic = change.transition is ConfChangeTransition.AUTO
    if automatic and not change.changes:
        return _leave(conf) if joint else conf
    if joint:
        return conf
    if automatic and len(change.changes) == 1:
        after = _carry_out(conf, change.changes, frozenset())
        return conf if after is None or len(set(after.voters) ^ set(conf.voters)) > 1 else after
    if not conf.voters:
        return conf
    after = _carry_out(conf, change.changes, frozenset(conf.voters))
    if after is None:
        return conf
    leaves_by_itself = change.transition is not ConfChangeTransition.JOINT_EXPLICIT
    return after._replace(voters_outgoing=conf.voters, auto_leave=leaves_by_itself)


def has_quorum(conf: ConfState, holds: Callable[[int], bool]) -> bool:
    """Whether more than half of the voters, of both halves if there are two, fulfil `holds`."""
    halves = [half for half in (conf.voters, conf.voters_outgoing) if half]
    return bool(halves) and all(2 * sum(1 for voter in half if holds(voter)) > len(half) for half in halves)


def members(conf: ConfState) -> set[int]:
    """Everybody who takes part."""
    return {*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next}


def _leave(conf: ConfState) -> ConfState:
    return ConfState(voters=conf.voters, learners=tuple(sorted({*conf.learners, *conf.learners_next})))


def _carry_out(conf: ConfState, changes: Collection[ConfChangeSingle], outgoing: frozenset[int]) -> ConfState | None:
    voters, learners, later = set(conf.voters), set(conf.learners), set(conf.learners_next)
    for change in changes:
        node_id = change.node_id
        if node_id == 0 or change.type is ConfChangeType.UPDATE_NODE:
            continue
        if change.type is ConfChangeType.ADD_LEARNER and (node_id in learners or node_id in later):
            # A future learner is no learner yet; asking again changes nothing that is not so already.
            voters.discard(node_id)
            continue
        for group in (voters, learners, later):
            group.discard(node_id)
        if change.type is ConfChangeType.ADD_NODE:
            voters.add(node_id)
        elif change.type is ConfChangeType.ADD_LEARNER:
            (later if node_id in outgoing else learners).add(node_id)
    if not voters:
        return None
    return ConfState(voters=tuple(sorted(voters)), learners=tuple(sorted(learners)), learners_next=tuple(sorted(later)))
