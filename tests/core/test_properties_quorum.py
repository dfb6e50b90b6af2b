"""Quorums against a model that tries every majority and every way in which the missing votes could fall."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.core.inflights import Inflights
from raftactors.core.progress import Progress
from raftactors.core.quorum import (
    VoteResult,
    committed_index,
    joint_committed_index,
    joint_vote_result,
    majority_value,
    vote_result,
)
from raftactors.core.tracker import Tracker
from raftactors.core.types import UNLIMITED, ConfState

NODES = range(1, 8)
INDEX_MAX = 6

halves = st.frozensets(st.sampled_from(NODES), max_size=5)
acks = st.dictionaries(st.sampled_from(NODES), st.integers(0, INDEX_MAX))
ballots = st.dictionaries(st.sampled_from(NODES), st.booleans())


def _majorities(voters: Collection[int]) -> list[tuple[int, ...]]:
    return [
        some
        for size in range(len(voters) + 1)
        for some in itertools.combinations(voters, size)
        if 2 * len(some) > len(voters)
    ]


def _is_held(voters: Collection[int], acked: Mapping[int, int], index: int) -> bool:
    return not voters or any(all(acked.get(voter, 0) >= index for voter in some) for some in _majorities(voters))


def _model_commit(halves: list[Collection[int]], acked: Mapping[int, int]) -> int:
    if not any(halves):
        return UNLIMITED
    return max(index for index in range(INDEX_MAX + 1) if all(_is_held(half, acked, index) for half in halves))


def _has_won(voters: Collection[int], votes: Mapping[int, bool]) -> bool:
    return not voters or any(all(votes.get(voter) for voter in some) for some in _majorities(voters))


def _model_vote(halves: list[Collection[int]], votes: Mapping[int, bool]) -> VoteResult:
    if all(_has_won(half, votes) for half in halves):
        return VoteResult.WON
    missing = sorted({voter for half in halves for voter in half} - set(votes))
    for answers in itertools.product((False, True), repeat=len(missing)):
        complete = {**votes, **dict(zip(missing, answers, strict=True))}
        if all(_has_won(half, complete) for half in halves):
            return VoteResult.PENDING
    return VoteResult.LOST


@given(halves, acks)
def test_a_majority_commits(voters: frozenset[int], acked: dict[int, int]) -> None:
    assert committed_index(voters, acked) == _model_commit([voters], acked)


@given(halves, halves, acks)
def test_both_majorities_commit(incoming: frozenset[int], outgoing: frozenset[int], acked: dict[int, int]) -> None:
    expected = _model_commit([incoming, outgoing], acked)
    assert joint_committed_index(incoming, outgoing, acked) == expected


@given(halves.filter(bool), halves, acks)
def test_the_tracker_commits_the_same(
    incoming: frozenset[int], outgoing: frozenset[int], acked: dict[int, int]
) -> None:
    tracker = Tracker(1, UNLIMITED)
    members = incoming | outgoing
    progress = {each: Progress(match=acked.get(each, 0), next=9, inflights=Inflights(1)) for each in members}
    tracker.switch(ConfState(tuple(sorted(incoming)), tuple(sorted(outgoing))), progress)
    assert tracker.committed_index() == _model_commit([incoming, outgoing], acked)


@given(halves, ballots)
def test_a_majority_elects(voters: frozenset[int], votes: dict[int, bool]) -> None:
    assert vote_result(voters, votes) is _model_vote([voters], votes)


@given(halves, halves, ballots)
def test_both_majorities_elect(incoming: frozenset[int], outgoing: frozenset[int], votes: dict[int, bool]) -> None:
    assert joint_vote_result(incoming, outgoing, votes) is _model_vote([incoming, outgoing], votes)


@given(st.lists(st.integers(0, INDEX_MAX), min_size=1, max_size=9))
def test_most_values_reach_the_majority_value_and_none_above(values: list[int]) -> None:
    value = majority_value(list(values))
    assert 2 * sum(each >= value for each in values) > len(values)
    assert 2 * sum(each > value for each in values) <= len(values)


@pytest.mark.parametrize("votes", [{}, {1: False}])
def test_the_model_knows_the_plain_cases(votes: dict[int, bool]) -> None:
    assert _model_vote([()], votes) is VoteResult.WON
    assert _model_vote([(1,), (2,)], votes) is (VoteResult.LOST if votes else VoteResult.PENDING)
    assert _model_commit([(1, 2, 3)], {1: 5, 2: 4}) == 4
