"""Quorum arithmetic against slow oracles."""

from __future__ import annotations

import itertools
import random

import pytest

from raftactors.core.quorum import (
    VoteResult,
    committed_index,
    joint_committed_index,
    joint_vote_result,
    vote_result,
)
from raftactors.core.types import UNLIMITED


@pytest.mark.parametrize("seed", range(50))
def test_committed_index_agrees_with_a_slow_oracle(seed: int) -> None:
    rng = random.Random(seed)
    voters = range(1, rng.randrange(2, 9))
    acked = {voter: rng.randrange(10) for voter in voters if rng.random() < 0.9}
    quorum = len(voters) // 2 + 1
    held = [i for i in range(10) if sum(acked.get(voter, 0) >= i for voter in voters) >= quorum]
    assert committed_index(voters, acked) == max(held)


def test_nobody_agrees_to_everything() -> None:
    assert committed_index((), {}) == UNLIMITED
    assert vote_result((), {}) is VoteResult.WON


def test_joint_index_is_the_smaller_one() -> None:
    acked = {1: 5, 2: 7, 3: 9, 4: 1}
    assert committed_index((1, 2, 3), acked) == 7
    assert joint_committed_index((1, 2, 3), (3, 4), acked) == 1
    assert joint_committed_index((1, 2, 3), (), acked) == 7


@pytest.mark.parametrize("count", range(1, 6))
def test_vote_result_says_what_the_missing_votes_can_still_change(count: int) -> None:
    voters = tuple(range(count))
    for cast in itertools.product((True, False, None), repeat=count):
        votes = {voter: vote for voter, vote in enumerate(cast) if vote is not None}
        missing = [voter for voter in voters if voter not in votes]
        outcomes = {
            sum((votes | dict(zip(missing, rest, strict=True))).values()) * 2 > count
            for rest in itertools.product((True, False), repeat=len(missing))
        }
        expected = VoteResult.PENDING if len(outcomes) == 2 else VoteResult.WON if True in outcomes else VoteResult.LOST
        assert vote_result(voters, votes) is expected


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        ({1: True, 2: True}, VoteResult.PENDING),
        ({1: True, 2: True, 3: True}, VoteResult.WON),
        ({3: False}, VoteResult.LOST),
        ({1: False, 2: False}, VoteResult.LOST),
        ({3: True, 4: True}, VoteResult.PENDING),
    ],
)
def test_joint_votes_need_both_halves(votes: dict[int, bool], result: VoteResult) -> None:
    assert joint_vote_result((1, 2), (3,), votes) is result


def test_votes_of_others_do_not_count() -> None:
    assert vote_result((1, 2, 3), {7: True, 8: True, 1: True}) is VoteResult.PENDING
