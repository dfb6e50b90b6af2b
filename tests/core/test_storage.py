"""The in-memory storage."""

from __future__ import annotations

import pytest

from raftactors.core.storage import MemoryStorage
from raftactors.core.types import UNLIMITED, ConfState, Entry, HardState, Snapshot
from raftactors.errors import CompactedError, SnapshotOutOfDateError, UnavailableError


def _storage() -> MemoryStorage:
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(3, 3, ConfState((1,))))
    storage.append([Entry(4, 4, b""), Entry(5, 5, b""), Entry(6, 6, b"")])
    return storage


def _indexes(storage: MemoryStorage) -> list[tuple[int, int]]:
    low, high = storage.first_index(), storage.last_index() + 1
    return [(entry.term, entry.index) for entry in storage.entries(low, high, UNLIMITED)]


def test_a_new_storage_starts_before_the_first_entry() -> None:
    storage = MemoryStorage()
    assert (storage.first_index(), storage.last_index(), storage.term(0)) == (1, 0, 0)
    assert storage.initial_state() == (HardState(), ConfState())
    assert storage.snapshot() == Snapshot()


def test_terms_from_the_one_before_the_first() -> None:
    storage = _storage()
    assert [storage.term(index) for index in (3, 4, 6)] == [3, 4, 6]
    with pytest.raises(CompactedError):
        storage.term(2)
    with pytest.raises(UnavailableError):
        storage.term(7)


def test_entries_are_cut_by_size_but_never_to_nothing() -> None:
    storage = _storage()
    assert [entry.index for entry in storage.entries(4, 7, UNLIMITED)] == [4, 5, 6]
    assert [entry.index for entry in storage.entries(4, 7, 16)] == [4, 5]
    assert [entry.index for entry in storage.entries(4, 7, 0)] == [4]
    with pytest.raises(CompactedError):
        storage.entries(3, 5, UNLIMITED)
    with pytest.raises(UnavailableError):
        storage.entries(4, 8, UNLIMITED)


@pytest.mark.parametrize(
    ("new", "held"),
    [
        ([(4, 4)], [(4, 4)]),
        ([(7, 5)], [(4, 4), (7, 5)]),
        ([(6, 7)], [(4, 4), (5, 5), (6, 6), (6, 7)]),
        ([(1, 2), (3, 3), (8, 4)], [(8, 4)]),
        ([(1, 2), (3, 3)], [(4, 4), (5, 5), (6, 6)]),
        ([], [(4, 4), (5, 5), (6, 6)]),
    ],
)
def test_append_replaces_from_the_first_new_entry_on(new: list[tuple[int, int]], held: list[tuple[int, int]]) -> None:
    storage = _storage()
    storage.append([Entry(term, index) for term, index in new])
    assert _indexes(storage) == held


def test_append_leaves_no_gap() -> None:
    with pytest.raises(UnavailableError, match="gap"):
        _storage().append([Entry(8, 8)])


def test_compaction_keeps_the_term_before_the_first_entry() -> None:
    storage = _storage()
    storage.compact(5)
    assert (storage.first_index(), storage.term(5), _indexes(storage)) == (6, 5, [(6, 6)])
    with pytest.raises(CompactedError):
        storage.compact(5)
    with pytest.raises(UnavailableError):
        storage.compact(7)


def test_snapshots_only_move_forward() -> None:
    storage = _storage()
    made = storage.create_snapshot(5, ConfState((1, 2)), b"state")
    assert made == storage.snapshot() == Snapshot(5, 5, ConfState((1, 2)), b"state")
    assert _indexes(storage) == [(4, 4), (5, 5), (6, 6)]
    with pytest.raises(SnapshotOutOfDateError):
        storage.create_snapshot(5, ConfState(), b"")
    with pytest.raises(SnapshotOutOfDateError):
        storage.apply_snapshot(Snapshot(5, 9))
    storage.apply_snapshot(Snapshot(9, 9))
    assert (storage.first_index(), storage.last_index(), storage.term(9)) == (10, 9, 9)


def test_hard_state_is_kept() -> None:
    storage = _storage()
    storage.set_hard_state(HardState(7, 2, 5))
    assert storage.initial_state() == (HardState(7, 2, 5), ConfState((1,)))
