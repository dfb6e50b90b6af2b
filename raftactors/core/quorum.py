"""Quorum arithmetic: majorities, and joint quorums of two majorities (thesis section 4.3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum

from raftactors.core.types import UNLIMITED


class VoteResult(Enum):
    """Where an election, or any other count of yes and no, stands."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def majority_value(values: list[int]) -> int:
    """The largest value that a majority of `values` reaches; UNLIMITED if there are none. Sorts `values` in place."""
    count = len(values)
    if not count:
        return UNLIMITED
    values.sort()
    # A majority has count // 2 + 1 members, so this many values may stay below.
    return values[count - count // 2 - 1]


def committed_index(voters: Collection[int], acked: Mapping[int, int]) -> int:
    """The largest index that a majority of `voters` has acknowledged; unknown counts as 0, no voters as UNLIMITED."""
    return majority_value([acked.get(voter, 0) for voter in voters])


def joint_committed_index(incoming: Collection[int], outgoing: Collection[int], acked: Mapping[int, int]) -> int:
    """The largest index that majorities of both halves have acknowledged."""
    return min(committed_index(incoming, acked), committed_index(outgoing, acked))


def vote_result(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Count the votes of `voters`. No voters win; a lost vote cannot be won by those that are still out."""
    if not voters:
        return VoteResult.WON
    granted = outstanding = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            outstanding += 1
        elif vote:
            granted += 1
    quorum = len(voters) // 2 + 1
    if granted >= quorum:
        return VoteResult.WON
    return VoteResult.PENDING if granted + outstanding >= quorum else VoteResult.LOST


def joint_vote_result(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won if both halves win, lost if one of them is lost."""
    first = vote_result(incoming, votes)
    if not outgoing or first is VoteResult.LOST:
        return first
    second = vote_result(outgoing, votes)
    return second if first is VoteResult.WON or second is VoteResult.LOST else VoteResult.PENDING
