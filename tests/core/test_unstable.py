"""The part of the log that is not durable yet."""

from __future__ import annotations

import pytest

from raftactors.core.types import Entry, Snapshot
from raftactors.core.unstable import Unstable


def _entries(*ids: tuple[int, int]) -> list[Entry]:
    return [Entry(term, index) for term, index in ids]


def _unstable(offset: int = 5) -> Unstable:
    unstable = Unstable(offset)
    unstable.truncate_and_append(_entries((1, offset), (1, offset + 1), (2, offset + 2)))
    return unstable


def test_terms_are_known_inside_only() -> None:
    unstable = _unstable()
    assert [unstable.term(index) for index in (4, 5, 7, 8)] == [None, 1, 2, None]
    unstable.restore(Snapshot(4, 3))
    assert [unstable.term(index) for index in (3, 4, 5)] == [None, 3, None]


def test_entries_are_handed_out_once() -> None:
    unstable = _unstable()
    assert [entry.index for entry in unstable.next_entries()] == [5, 6, 7]
    unstable.accept_in_progress()
    assert (unstable.next_entries(), unstable.has_next_entries()) == ((), False)
    unstable.truncate_and_append(_entries((2, 8)))
    assert [entry.index for entry in unstable.next_entries()] == [8]


@pytest.mark.parametrize(
    ("term", "index", "done", "offset"),
    [(1, 5, True, 6), (2, 7, True, 8), (1, 7, False, 5), (1, 4, False, 5), (2, 9, False, 5)],
)
def test_only_what_was_really_stored_is_let_go(term: int, index: int, done: bool, offset: int) -> None:
    unstable = _unstable()
    unstable.accept_in_progress()
    assert unstable.stable_to(term, index) is done
    assert unstable.offset == offset
    assert unstable.offset + len(unstable.entries) == 8
    assert unstable.offset_in_progress == 8


def test_an_acknowledgement_may_come_before_the_hand_out_of_later_entries() -> None:
    unstable = _unstable()
    assert unstable.stable_to(1, 6)
    assert (unstable.offset, unstable.offset_in_progress) == (7, 7)


@pytest.mark.parametrize(
    ("first", "offset", "in_progress", "held"),
    [(8, 5, 8, [5, 6, 7, 8]), (7, 5, 7, [5, 6, 7]), (6, 5, 6, [5, 6]), (5, 5, 5, [5]), (3, 3, 3, [3])],
)
def test_replaced_entries_are_written_again(first: int, offset: int, in_progress: int, held: list[int]) -> None:
    unstable = _unstable()
    unstable.accept_in_progress()
    unstable.truncate_and_append(_entries((3, first)))
    assert [entry.index for entry in unstable.entries] == held
    assert (unstable.offset, unstable.offset_in_progress) == (offset, in_progress)


def test_a_snapshot_replaces_everything_and_is_handed_out_once() -> None:
    unstable = _unstable()
    unstable.restore(Snapshot(20, 4))
    assert (unstable.offset, unstable.entries) == (21, [])
    assert unstable.next_snapshot() == Snapshot(20, 4)
    unstable.accept_in_progress()
    assert unstable.next_snapshot() is None
    unstable.stable_snapshot_to(19)
    assert unstable.snapshot is not None
    unstable.stable_snapshot_to(20)
    assert not unstable.snapshot_in_progress
    assert unstable.next_snapshot() is None
    assert unstable.term(20) is None
