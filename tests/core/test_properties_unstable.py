"""The unstable end of the log, with a slow disk below it, against the log as it should be."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raftactors.core.types import Entry, Snapshot
from raftactors.core.unstable import Unstable


class _Write(NamedTuple):
    """What a disk was given at once, and the term in which it was."""

    term: int
    snapshot: Snapshot | None
    entries: tuple[Entry, ...]
    last: Entry | None


class UnstableMachine(RuleBasedStateMachine):
    """`log` is the truth by index behind `base`; `disk` is what would be found after a crash.

    As in Raft, entries are replaced only in a new term, and acknowledgements of an earlier term count for nothing.
    """

    @initialize(stored=st.integers(0, 3))
    def start(self, stored: int) -> None:
        self.base = 0
        self.term = 1
        self.log = {index: Entry(1, index) for index in range(1, stored + 1)}
        self.disk_base = 0
        self.disk = dict(self.log)
        self.durable = self.handed = stored
        self.snapshot: Snapshot | None = None
        self.writes: deque[_Write] = deque()
        self.unstable = Unstable(stored + 1)

    def _last(self) -> int:
        return self.base + len(self.log)

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        first = self._last() + 1
        self._put([Entry(self.term, index) for index in range(first, first + count)])

    @precondition(lambda self: self.log)
    @rule(back=st.integers(0, 6), count=st.integers(1, 4))
    def replace(self, back: int, count: int) -> None:
        self.term += 1
        first = max(self._last() - back, self.base + 1)
        self._put([Entry(self.term, index) for index in range(first, first + count)])

    def _put(self, entries: list[Entry]) -> None:
        first = entries[0].index
        self.unstable.truncate_and_append(entries)
        self.log = {index: entry for index, entry in self.log.items() if index < first}
        self.log.update((entry.index, entry) for entry in entries)
        self.durable = min(self.durable, first - 1)
        self.handed = min(self.handed, first - 1)

    @rule(ahead=st.integers(1, 5))
    def receive_snapshot(self, ahead: int) -> None:
        self.term += 1
        self.snapshot = Snapshot(self._last() + ahead, self.term)
        self.base = self.durable = self.handed = self.snapshot.index
        self.log = {}
        self.unstable.restore(self.snapshot)

    @rule()
    def hand_out(self) -> None:
        assert self.unstable.has_next_entries() == (self.handed < self._last())
        entries, snapshot = self.unstable.next_entries(), self.unstable.next_snapshot()
        assert entries == tuple(self.log[index] for index in range(self.handed + 1, self._last() + 1))
        self.unstable.accept_in_progress()
        self.handed = self._last()
        assert (self.unstable.next_entries(), self.unstable.next_snapshot()) == ((), None)
        unwritten = self.durable < self._last()
        self.writes.append(_Write(self.term, snapshot, entries, self.log[self._last()] if unwritten else None))

    @precondition(lambda self: self.writes)
    @rule()
    def write(self) -> None:
        write = self.writes.popleft()
        if write.snapshot is not None:
            self.disk_base, self.disk = write.snapshot.index, {}
        if write.entries:
            self.disk = {index: entry for index, entry in self.disk.items() if index < write.entries[0].index}
            self.disk.update((entry.index, entry) for entry in write.entries)
        last = write.last
        if last is not None and write.term == self.term:
            assert self.unstable.stable_to(last.term, last.index) == (last.index > self.durable)
            self.durable = max(self.durable, last.index)
        if write.snapshot is not None:
            self.unstable.stable_snapshot_to(write.snapshot.index)
            if write.snapshot == self.snapshot:
                self.snapshot = None

    @rule(ahead=st.integers(-3, 3), term=st.integers(0, 2))
    def acknowledge_what_is_not_there(self, ahead: int, term: int) -> None:
        index = self.durable + ahead
        entry = self.log.get(index)
        if index <= self.durable or entry is None or entry.term != term:
            assert not self.unstable.stable_to(term, index)

    @invariant()
    def agrees(self) -> None:
        unstable = self.unstable
        assert unstable.entries == [self.log[index] for index in range(self.durable + 1, self._last() + 1)]
        assert (unstable.offset, unstable.offset_in_progress) == (self.durable + 1, self.handed + 1)
        assert unstable.snapshot == self.snapshot
        for low in range(unstable.offset, self._last() + 2):
            assert unstable.slice(low, self._last() + 1) == tuple(unstable.entries[low - unstable.offset :])
        for index in range(max(self.base - 2, 0), self._last() + 3):
            held = self.log.get(index) if index > self.durable else None
            at_snapshot = self.snapshot is not None and self.snapshot.index == index
            expected = held.term if held else self.term_of_snapshot() if at_snapshot else None
            assert unstable.term(index) == expected

    def term_of_snapshot(self) -> int | None:
        return None if self.snapshot is None else self.snapshot.term

    @invariant()
    def lets_go_only_of_what_the_disk_holds(self) -> None:
        if self.snapshot is None:
            assert self.disk_base == self.base
            for index in range(self.base + 1, self.unstable.offset):
                assert self.disk[index] == self.log[index]


TestUnstable = UnstableMachine.TestCase
