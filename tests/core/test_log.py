"""One view of the log: stored below, unstable on top."""

from __future__ import annotations

import random

import pytest

from raftactors.core.log import RaftLog
from raftactors.core.sizes import entry_size
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import UNLIMITED, Entry, EntryType, Snapshot
from raftactors.errors import CompactedError, InvariantViolation, UnavailableError
from tests.core.network import QUIET


def _log(terms: list[int], stored: int, base: Snapshot | None = None, applying_bytes_max: int = UNLIMITED) -> RaftLog:
    """A log with these terms behind `base`, the first `stored` entries of it in storage."""
    storage = MemoryStorage()
    start = 0
    if base is not None:
        storage.apply_snapshot(base)
        start = base.index
    entries = [Entry(term, start + 1 + position, b"x") for position, term in enumerate(terms)]
    storage.append(entries[:stored])
    log = RaftLog(storage, QUIET, applying_bytes_max)
    log.append(entries[stored:])
    return log


def test_terms_across_the_border() -> None:
    log = _log([2, 2, 3, 4], stored=2, base=Snapshot(10, 1))
    assert (log.first_index(), log.last_index(), log.last_term()) == (11, 14, 4)
    assert [log.term(index) for index in range(10, 15)] == [1, 2, 2, 3, 4]
    with pytest.raises(CompactedError):
        log.term(9)
    with pytest.raises(UnavailableError):
        log.term(15)
    assert (log.try_term(9), log.try_term(15)) == (None, None)


@pytest.mark.parametrize("stored", range(6))
def test_slices_do_not_depend_on_where_the_border_is(stored: int) -> None:
    log = _log([1] * 5, stored=stored)
    size = entry_size(Entry(1, 1, b"x"))
    for low in range(1, 6):
        for high in range(low, 7):
            assert [entry.index for entry in log.slice(low, high)] == list(range(low, high))
            for count in range(1, 6):
                cut = log.slice(low, high, count * size)
                assert [entry.index for entry in cut] == list(range(low, min(high, low + count)))
            assert len(log.slice(low, high, 0)) == min(1, high - low)


def test_a_large_entry_on_the_border_waits() -> None:
    log = _log([1], stored=1)
    log.append([Entry(1, 2, b"x" * 100)])
    assert [entry.index for entry in log.slice(1, 3, 50)] == [1]
    assert [entry.index for entry in log.slice(2, 3, 50)] == [2]


def test_slices_stay_inside() -> None:
    log = _log([1, 1], stored=1, base=Snapshot(3, 1))
    with pytest.raises(CompactedError):
        log.slice(3, 5)
    with pytest.raises(InvariantViolation):
        log.slice(4, 7)


@pytest.mark.parametrize(
    ("term", "index", "newer"), [(3, 1, True), (2, 4, True), (2, 3, True), (2, 2, False), (1, 9, False)]
)
def test_up_to_date_compares_terms_first(term: int, index: int, newer: bool) -> None:
    assert _log([1, 1, 2], stored=3).is_up_to_date(term, index) is newer


@pytest.mark.parametrize("seed", range(40))
def test_agreeing_entry_is_the_last_one_of_no_higher_term(seed: int) -> None:
    rng = random.Random(seed)
    base = Snapshot(rng.randrange(1, 6), rng.randrange(1, 4)) if rng.random() < 0.7 else None
    start, lowest = (base.index, base.term) if base is not None else (0, 0)
    terms = sorted(rng.randrange(max(lowest, 1), 12) for _ in range(rng.randrange(12)))
    log = _log(terms, stored=rng.randrange(len(terms) + 1), base=base)
    known = dict(enumerate([lowest, *terms], start))
    for index in range(start + len(terms) + 3):
        for term in range(13):
            expected = (index, 0)
            while expected[0] > 0 and expected[0] in known:
                if known[expected[0]] <= term:
                    expected = (expected[0], known[expected[0]])
                    break
                expected = (expected[0] - 1, 0)
            assert log.agreeing_entry(index, term) == expected


def test_conflicts() -> None:
    log = _log([1, 1, 2], stored=2)
    assert log.first_conflict([Entry(1, 2), Entry(2, 3)]) == 2
    assert log.first_conflict([Entry(1, 2), Entry(2, 3), Entry(2, 4)]) == 2
    assert log.first_conflict([Entry(1, 2), Entry(3, 3)]) == 1
    assert log.first_conflict([Entry(4, 1)]) == 0


def test_what_is_committed_is_never_replaced() -> None:
    log = _log([1, 1, 2], stored=3)
    log.commit_to(2)
    with pytest.raises(InvariantViolation, match="replace a committed one"):
        log.append([Entry(3, 2)])
    log.append([Entry(3, 3)])
    assert (log.last_index(), log.last_term()) == (3, 3)


def test_commit_moves_forward_and_never_behind_the_log() -> None:
    log = _log([1, 1, 1], stored=3)
    log.commit_to(2)
    log.commit_to(1)
    assert log.committed == 2
    with pytest.raises(InvariantViolation, match="behind the log"):
        log.commit_to(4)


def test_unstable_entries_are_applied_only_if_allowed() -> None:
    log = _log([1, 1, 1], stored=1)
    log.commit_to(3)
    assert [entry.index for entry in log.next_committed(True)] == [1, 2, 3]
    assert [entry.index for entry in log.next_committed(False)] == [1]
    log.accept_applying(1, 0, False)
    assert not log.has_next_committed(False)
    assert log.has_next_committed(True)


def test_application_is_paced_by_bytes() -> None:
    size = entry_size(Entry(1, 1, b"x"))
    log = _log([1] * 4, stored=4, applying_bytes_max=2 * size)
    log.commit_to(4)
    first = log.next_committed(True)
    assert [entry.index for entry in first] == [1, 2]
    log.accept_applying(2, 2 * size, True)
    assert log.applying_paused
    assert log.next_committed(True) == ()
    log.applied_to(1, size)
    assert [entry.index for entry in log.next_committed(True)] == [3]
    log.accept_applying(3, size, True)
    log.applied_to(3, 2 * size)
    assert (log.applying_bytes, log.applying_paused) == (0, False)


def test_nothing_is_applied_while_a_snapshot_waits() -> None:
    log = _log([1, 1], stored=2)
    log.restore(Snapshot(9, 2))
    log.append([Entry(2, 10)])
    log.commit_to(10)
    assert log.next_committed(True) == ()
    log.unstable.stable_snapshot_to(9)
    log.applied_to(9, 0)
    assert [entry.index for entry in log.next_committed(True)] == [10]


def test_applied_stays_within_committed() -> None:
    log = _log([1, 1], stored=2)
    log.commit_to(1)
    for index in (2, -1):
        with pytest.raises(InvariantViolation, match="applied index"):
            log.applied_to(index, 0)


def test_a_restored_snapshot_replaces_the_log() -> None:
    log = _log([1, 1, 1], stored=2)
    log.restore(Snapshot(8, 4))
    assert (log.first_index(), log.last_index(), log.last_term(), log.committed) == (9, 8, 4, 8)
    assert log.all_entries() == ()
    assert log.snapshot() == Snapshot(8, 4)
    assert log.try_term(2) is None


def test_unapplied_membership_changes_are_found_on_every_page() -> None:
    log = _log([1] * 2500, stored=2500)
    log.append([Entry(1, 2501, b"", EntryType.CONF_CHANGE), Entry(1, 2502, b"")])
    log.commit_to(2500)
    assert not log.has_unapplied_conf_change()
    log.commit_to(2502)
    assert log.has_unapplied_conf_change()
    log.applied_to(2501, 0)
    assert not log.has_unapplied_conf_change()
