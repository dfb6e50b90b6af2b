"""The log, over a storage that lags behind and is compacted, against a list of all entries there ever were."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raftactors.core.log import RaftLog
from raftactors.core.sizes import entry_size
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import UNLIMITED, Entry, EntryType, Snapshot
from raftactors.errors import CompactedError, UnavailableError
from tests.core.network import QUIET

ENTRY_BYTES = entry_size(Entry(1, 1, b"x"))

LENGTH_MAX = 16
"""A longer log makes a run slower and shows nothing new."""

payload_sizes = st.integers(0, 12)
payloads = st.lists(st.tuples(payload_sizes, st.sampled_from(list(EntryType))), min_size=1, max_size=4)
byte_limits = st.one_of(st.just(UNLIMITED), st.integers(0, 5 * ENTRY_BYTES))


def _prefix(entries: list[Entry], bytes_max: int) -> tuple[Entry, ...]:
    """The longest prefix within the limit, at least one entry: shortened from behind until it fits."""
    kept = list(entries)
    while len(kept) > 1 and sum(map(entry_size, kept)) > bytes_max:
        kept.pop()
    return tuple(kept)


class LogMachine(RuleBasedStateMachine):
    """`entries[i]` is the one at index i, the first of them a stand-in for "before the log".

    `base` is the last index that is compacted, `stored` the last one that storage has acknowledged, `waiting` what is
    being applied: last index and bytes of each batch.
    """

    @initialize(
        wanted=st.lists(st.tuples(st.integers(1, 4), payload_sizes), min_size=1, max_size=8),
        unstored=st.integers(0, 4),
        applying_bytes_max=st.one_of(st.just(UNLIMITED), st.integers(1, 60)),
        allow_unstable=st.booleans(),
    )
    def start(
        self, wanted: list[tuple[int, int]], unstored: int, applying_bytes_max: int, allow_unstable: bool
    ) -> None:
        self.entries = [Entry(0, 0)]
        for index, (term, size) in enumerate(sorted(wanted), 1):
            self.entries.append(Entry(term, index, b"x" * size))
        self.base = self.committed = self.handed = self.applied = 0
        self.stored = max(self._last() - unstored, 0)
        self.storage = MemoryStorage()
        self.storage.append(self.entries[1 : self.stored + 1])
        self.log = RaftLog(self.storage, QUIET, applying_bytes_max)
        self.log.append(self.entries[self.stored + 1 :])
        self.limit, self.allow_unstable = applying_bytes_max, allow_unstable
        self.snapshot: Snapshot | None = None
        self.waiting: list[tuple[int, int]] = []
        self.stopped_short = False

    def _last(self) -> int:
        return len(self.entries) - 1

    # --- writing ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self._last() < self.base + LENGTH_MAX)
    @rule(new_term=st.booleans(), wanted=payloads, back=st.integers(0, 5))
    def append(self, new_term: bool, wanted: list[tuple[int, EntryType]], back: int) -> None:
        """In a new term entries that are not committed may be replaced, otherwise more are put behind."""
        first = max(self._last() - back, self.committed) + 1 if new_term else self._last() + 1
        term = max(self.entries[-1].term, 1) + new_term
        entries = [Entry(term, first + i, b"x" * size, kind) for i, (size, kind) in enumerate(wanted)]
        assert self.log.append(entries) == entries[-1].index
        self.entries[first:] = entries
        self.stored = min(self.stored, first - 1)

    @precondition(lambda self: self.committed < self._last())
    @rule(ahead=st.integers(-1, 4))
    def commit(self, ahead: int) -> None:
        index = min(self.committed + ahead, self._last())
        self.log.commit_to(index)
        self.committed = max(self.committed, index)

    @precondition(lambda self: self.stored < self._last() or self.snapshot is not None)
    @rule()
    def store(self) -> None:
        """Storage writes everything that waits, and acknowledges it."""
        unstable = self.log.unstable
        entries, snapshot = unstable.next_entries(), unstable.next_snapshot()
        assert list(entries) == self.entries[self.stored + 1 :]
        unstable.accept_in_progress()
        if snapshot is not None:
            assert snapshot == self.snapshot
            self.storage.apply_snapshot(snapshot)
        self.storage.append(entries)
        if entries:
            self.log.stable_to(entries[-1].term, entries[-1].index)
        if snapshot is not None:
            unstable.stable_snapshot_to(snapshot.index)
            self.log.applied_to(snapshot.index, 0)
            self.applied = self.handed = max(self.handed, snapshot.index)
            self.stopped_short = False
        self.snapshot = None
        self.stored = self._last()

    @precondition(lambda self: min(self.applied, self.stored) > self.base and self.snapshot is None)
    @rule(back=st.integers(0, 4))
    def compact(self, back: int) -> None:
        index = min(self.applied, self.stored) - back
        if index > self.base:
            self.storage.compact(index)
            self.base = index

    @precondition(lambda self: self.snapshot is None and not self.waiting and self.committed > self.base)
    @rule(ahead=st.integers(1, 4))
    def restore(self, ahead: int) -> None:
        term = self.entries[-1].term + 1
        self.snapshot = Snapshot(self._last() + ahead, term)
        self.log.restore(self.snapshot)
        self.entries += [Entry(term, index) for index in range(self._last() + 1, self.snapshot.index + 1)]
        self.base = self.committed = self.stored = self.snapshot.index

    # --- applying ---------------------------------------------------------------------------------------------------

    def _appliable(self) -> list[Entry]:
        end = self.committed if self.allow_unstable else min(self.committed, self.stored)
        return self.entries[self.handed + 1 : end + 1]

    @precondition(lambda self: self.handed < self.committed)
    @rule()
    def hand_out(self) -> None:
        waiting_bytes = sum(size for _, size in self.waiting)
        ready = [] if self.snapshot or self.stopped_short or waiting_bytes >= self.limit else self._appliable()
        room = UNLIMITED if self.limit == UNLIMITED else self.limit - waiting_bytes
        expected = _prefix(ready, room)
        assert self.log.has_next_committed(self.allow_unstable) == bool(expected)
        assert self.log.next_committed(self.allow_unstable) == expected
        if expected:
            size = sum(map(entry_size, expected))
            self.log.accept_applying(expected[-1].index, size, self.allow_unstable)
            self.handed = expected[-1].index
            self.stopped_short = bool(self._appliable())
            self.waiting.append((self.handed, size))

    @precondition(lambda self: self.waiting)
    @rule()
    def apply(self) -> None:
        self.applied, size = self.waiting.pop(0)
        self.log.applied_to(self.applied, size)
        self.stopped_short = False

    # --- reading ----------------------------------------------------------------------------------------------------

    @rule(bytes_max=byte_limits)
    def read_around_the_border(self, bytes_max: int) -> None:
        end = self._last() + 1
        for low in range(max(self.stored - 3, 0), min(self.stored + 4, end)):
            assert self.log.slice(low, low) == ()
            for high in range(low + 1, min(low + 6, end) + 1):
                if low <= self.base:
                    with pytest.raises(CompactedError):
                        self.log.slice(low, high, bytes_max)
                else:
                    assert self.log.slice(low, high, bytes_max) == _prefix(self.entries[low:high], bytes_max)
            if low > self.base:
                assert self.log.entries_from(low, bytes_max) == _prefix(self.entries[low:], bytes_max)

    @rule()
    def find_agreeing_entries(self) -> None:
        for index in range(max(self.base - 1, 0), self._last() + 1):
            for term in {0, *(entry.term for entry in self.entries[self.base :])}:
                known = [entry for entry in self.entries[self.base : index + 1] if entry.term <= term]
                expected = (known[-1].index, known[-1].term) if known else (max(self.base - 1, 0), 0)
                assert self.log.agreeing_entry(index, term) == (expected if index >= self.base else (index, 0))

    @precondition(lambda self: self._last() > self.base)
    @rule(back=st.integers(0, 4), held=st.integers(1, 3), ends_otherwise=st.booleans())
    def compare_with_entries(self, back: int, held: int, ends_otherwise: bool) -> None:
        first = max(self._last() - back, self.base + 1)
        entries = self.entries[first : first + held]
        count = len(entries)
        if ends_otherwise:
            entries = [*entries, Entry(entries[-1].term + 100, entries[-1].index + 1)]
        assert self.log.first_conflict(entries) == count

    @invariant()
    def agrees(self) -> None:
        log = self.log
        assert (log.first_index(), log.last_index()) == (self.base + 1, self._last())
        assert (log.applied, log.applying, log.committed) == (self.applied, self.handed, self.committed)
        assert log.applying_bytes == sum(size for _, size in self.waiting)
        assert log.unstable.offset == self.stored + 1
        assert log.last_term() == self.entries[-1].term
        assert list(log.all_entries()) == self.entries[self.base + 1 :]

    @invariant()
    def knows_every_term_that_is_held(self) -> None:
        log = self.log
        for index in {0, self.base - 1} & set(range(self.base)):
            assert log.try_term(index) is None
            with pytest.raises(CompactedError):
                log.term(index)
        for entry in self.entries[self.base :]:
            assert log.term(entry.index) == entry.term
            assert log.matches(entry.term, entry.index)
            assert not log.matches(entry.term + 1, entry.index)
        with pytest.raises(UnavailableError):
            log.term(self._last() + 1)

    @invariant()
    def compares_logs_by_their_ends(self) -> None:
        own = (self.entries[-1].term, self._last())
        for term in range(own[0] - 1, own[0] + 2):
            for index in range(self._last() - 1, self._last() + 2):
                assert self.log.is_up_to_date(term, index) == ((term, index) >= own)

    @precondition(lambda self: self.snapshot is None)
    @invariant()
    def sees_committed_membership_changes(self) -> None:
        pending = self.entries[self.applied + 1 : self.committed + 1]
        assert self.log.has_unapplied_conf_change() == any(entry.type is not EntryType.NORMAL for entry in pending)


TestLog = LogMachine.TestCase
TestLog.settings = settings(stateful_step_count=60)
