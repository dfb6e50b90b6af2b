"""What the core reads below its unstable entries, and the in-memory implementation of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raftactors.core.sizes import prefix_count
from raftactors.core.types import EMPTY_HARD_STATE, UNLIMITED, ConfState, Entry, HardState, Snapshot
from raftactors.errors import CompactedError, SnapshotOutOfDateError, UnavailableError


class Storage(Protocol):
    """The stored part of the log. Errors are the `LogStorageError` kinds; any other error stops the node."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The stored hard state and the membership of the stored snapshot."""
        ...

    def entries(self, low: int, high: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries low..high-1, cut to the longest prefix of at most `bytes_max` encoded bytes, at least one.

        Raises CompactedError if `low` lies before the first index, UnavailableError behind the last.
        """
        ...

    def term(self, index: int) -> int:
        """The term of an entry in first_index()-1 .. last_index(). Raises CompactedError, UnavailableError."""
        ...

    def first_index(self) -> int:
        """Index of the first entry that `entries` may return."""
        ...

    def last_index(self) -> int:
        """Index of the last stored entry; first_index()-1 when there is none."""
        ...

    def snapshot(self) -> Snapshot:
        """The newest snapshot. Raises SnapshotTemporarilyUnavailableError while none is ready."""
        ...


class MemoryStorage:
    """A log in memory that follows the rules of `Storage`.

    A new one starts before index 1 with an empty snapshot of index 0. The term of the last compacted entry is kept,
    so that an append can still be anchored there.
    """

    def __init__(self) -> None:
        self._hard_state = EMPTY_HARD_STATE
        self._snapshot = Snapshot()
        # Index and term of the entry right before the first one.
        self._base_index = 0
        self._base_term = 0
        self._entries: list[Entry] = []

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The stored hard state and the membership of the stored snapshot."""
        return self._hard_state, self._snapshot.conf_state

    def set_hard_state(self, hard_state: HardState) -> None:
        """Replace the stored hard state."""
        self._hard_state = hard_state

    def first_index(self) -> int:
        """Index of the first entry that is held, or would be."""
        return self._base_index + 1

    def last_index(self) -> int:
        """Index of the last entry; first_index()-1 if there is none."""
        return self._base_index + len(self._entries)

    def term(self, index: int) -> int:
        """The term of an entry in first_index()-1 .. last_index(). Raises CompactedError, UnavailableError."""
        position = index - self._base_index - 1
        if position < 0:
            if position == -1:
                return self._base_term
            raise CompactedError(f"index {index} lies before {self._base_index}")
        if position >= len(self._entries):
            raise UnavailableError(f"index {index} lies behind the last entry, {self.last_index()}")
        return self._entries[position].term

    def entries(self, low: int, high: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries low..high-1, cut to `bytes_max` encoded bytes, at least one.

        Raises CompactedError, UnavailableError.
        """
        if low <= self._base_index:
            raise CompactedError(f"index {low} lies before the first entry, {self.first_index()}")
        if high > self.last_index() + 1:
            raise UnavailableError(f"index {high - 1} lies behind the last entry, {self.last_index()}")
        wanted = tuple(self._entries[low - self._base_index - 1 : high - self._base_index - 1])
        if bytes_max >= UNLIMITED:
            return wanted
        return wanted[: prefix_count(wanted, bytes_max)]

    def snapshot(self) -> Snapshot:
        """The stored snapshot, of index 0 if there was none yet."""
        return self._snapshot

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries of consecutive indexes behind, or in place of, what is held from the first of them on.

        Entries that a snapshot has already replaced are skipped. Raises UnavailableError if there would be a gap.
        """
        if not entries:
            return
        skipped = self._base_index + 1 - entries[0].index
        if skipped > 0:
            entries = entries[skipped:]
            if not entries:
                return
        position = entries[0].index - self._base_index - 1
        if position > len(self._entries):
            raise UnavailableError(f"entry {entries[0].index} would leave a gap behind {self.last_index()}")
        del self._entries[position:]
        self._entries.extend(entries)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace everything by a received snapshot. Raises SnapshotOutOfDateError if it is not newer."""
        if snapshot.index <= self._snapshot.index:
            raise SnapshotOutOfDateError(f"snapshot {snapshot.index} is not newer than {self._snapshot.index}")
        self._snapshot = snapshot
        self._base_index = snapshot.index
        self._base_term = snapshot.term
        self._entries = []

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes) -> Snapshot:
        """Store, and return, a snapshot of the application at `index`; the entries stay until `compact`.

        Raises SnapshotOutOfDateError if it is not newer, UnavailableError behind the last entry.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDateError(f"snapshot {index} is not newer than {self._snapshot.index}")
        self._snapshot = Snapshot(index, self.term(index), conf_state, data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Drop the entries up to and including `index`. Raises CompactedError, UnavailableError."""
        if index <= self._base_index:
            raise CompactedError(f"index {index} is compacted already; the first entry is {self.first_index()}")
        self._base_term = self.term(index)
        del self._entries[: index - self._base_index]
        self._base_index = index
