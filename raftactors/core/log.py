"""One view of the log: stored entries below, unstable ones on top.

Indexes are ordered: applied <= applying <= committed <= last index. `committed` and `applied` are those of the Raft
paper (Figure 2); `applying` is the highest index that was handed out for application.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftactors.core.config import Logger
from raftactors.core.invariants import invariant
from raftactors.core.sizes import entries_size, prefix_count
from raftactors.core.storage import Storage
from raftactors.core.types import UNLIMITED, Entry, EntryType, Snapshot
from raftactors.core.unstable import Unstable
from raftactors.errors import CompactedError, UnavailableError


class RaftLog:
    """The whole log of one node. Storage errors other than the expected ones stop the node."""

    __slots__ = (
        "_last_index",
        "_logger",
        "_storage",
        "applied",
        "applying",
        "applying_bytes",
        "applying_bytes_max",
        "applying_paused",
        "committed",
        "unstable",
    )

    def __init__(self, storage: Storage, logger: Logger, applying_bytes_max: int = UNLIMITED) -> None:
        """Start behind everything that the storage's snapshot covers.

        `applying_bytes_max` bounds the encoded bytes handed out for application and not yet acknowledged.
        """
        self._storage = storage
        self._logger = logger
        # The last index changes only by what passes through here, so storage need not be asked every time.
        self._last_index = storage.last_index()
        self.unstable = Unstable(self._last_index + 1)
        self.committed = self.applying = self.applied = storage.first_index() - 1
        self.applying_bytes = 0
        # With no byte at all nothing could ever be handed out; one byte means one entry at a time.
        self.applying_bytes_max = max(applying_bytes_max, 1)
        self.applying_paused = False

    # --- reading --------------------------------------------------------------------------------------------------

    def first_index(self) -> int:
        """Index of the first entry that is held, or would be."""
        snapshot = self.unstable.snapshot
        return self._storage.first_index() if snapshot is None else snapshot.index + 1

    def last_index(self) -> int:
        """Index of the last entry; that of the snapshot, or 0, if there is none behind it."""
        return self._last_index

    def last_term(self) -> int:
        """The term of the last entry."""
        term = self.try_term(self._last_index)
        invariant(term is not None, "the term of the last entry, %d, is not known", self._last_index)
        return term or 0

    def term(self, index: int) -> int:
        """The term of the entry at `index`; known from first_index()-1 on.

        Raises CompactedError below, UnavailableError behind the last entry.
        """
        term = self.unstable.term(index)
        return self._stored_term(index) if term is None else term

    def _stored_term(self, index: int) -> int:
        if index > self._last_index:
            raise UnavailableError(f"index {index} lies behind the last entry, {self._last_index}")
        snapshot = self.unstable.snapshot
        if snapshot is not None and index < snapshot.index:
            raise CompactedError(f"index {index} lies before the snapshot at {snapshot.index}")
        return self._storage.term(index)

    def try_term(self, index: int) -> int | None:
        """The term of the entry at `index`, None if it is compacted or not there yet."""
        term = self.unstable.term(index)
        if term is not None:
            return term
        try:
            return self._stored_term(index)
        except (CompactedError, UnavailableError):
            return None

    def matches(self, term: int, index: int) -> bool:
        """Whether the log is known to hold an entry of `term` at `index` (log matching, Raft paper Figure 3)."""
        return self.try_term(index) == term

    def is_up_to_date(self, term: int, index: int) -> bool:
        """Whether a log that ends in (term, index) is at least as complete as this one (Raft paper 5.4.1)."""
        last_term = self.last_term()
        return term > last_term or (term == last_term and index >= self._last_index)

    def slice(self, low: int, high: int, bytes_max: int = UNLIMITED) -> tuple[Entry, ...]:
        """Entries low..high-1, cut to the longest prefix of at most `bytes_max` encoded bytes, at least one.

        Raises CompactedError if `low` lies before the first entry.
        """
        if low >= high:
            return ()
        invariant(high <= self._last_index + 1, "entries up to %d asked of %d", high - 1, self._last_index)
        unstable = self.unstable
        offset = unstable.offset
        if low >= offset:
            return _cut(unstable.slice(low, high), bytes_max)
        snapshot = unstable.snapshot
        if snapshot is not None and low <= snapshot.index:
            raise CompactedError(f"index {low} lies within the snapshot at {snapshot.index}")
        stored = self._storage.entries(low, min(high, offset), bytes_max)
        if high <= offset or len(stored) < offset - low:
            return stored
        if bytes_max >= UNLIMITED:
            return stored + unstable.slice(offset, high)
        room = bytes_max - entries_size(stored)
        following = unstable.slice(offset, high)
        if entries_size(following[:1]) > room:
            return stored
        return stored + _cut(following, room)

    def entries_from(self, low: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries from `low` to the end, cut as by `slice`. Raises CompactedError."""
        return self.slice(low, self._last_index + 1, bytes_max)

    def all_entries(self) -> tuple[Entry, ...]:
        """Every entry from the first on; for tests and inspection."""
        return self.slice(self.first_index(), self._last_index + 1)

    def snapshot(self) -> Snapshot:
        """The newest snapshot. Raises SnapshotTemporarilyUnavailableError while storage has none ready."""
        return self.unstable.snapshot or self._storage.snapshot()

    def agreeing_entry(self, index: int, term: int) -> tuple[int, int]:
        """The last entry at or before `index` whose term is at most `term`, as (index, term).

        No later entry can be in a log that has `term` at `index`, so both sides of a rejected append skip whole terms
        with it. A term of 0 means: not known, it may agree. Terms never fall along the log, so the search halves.
        Source: Raft paper section 5.3, last paragraphs.
        """
        known = self.try_term(index)
        if known is None:
            return index, 0
        base = self.first_index() - 1
        if known > term:
            low, high = base, index
            # The entry at `high` is too new; so may be the one at `low`, which is looked at last.
            while high - low > 1:
                middle = (low + high) // 2
                if self.term(middle) > term:
                    high = middle
                else:
                    low = middle
            index, known = low, self.term(low)
            if known > term:
                # Everything down to the compacted part is too new; what lies there is not known.
                return max(base - 1, 0), 0
        return (index, known) if index else (0, 0)

    def has_unapplied_conf_change(self) -> bool:
        """Whether a membership change is committed and not yet applied. Reads the entries in pages."""
        low = max(self.applied + 1, self.first_index())
        while low <= self.committed:
            page = self.slice(low, min(self.committed, low + _PAGE_ENTRIES - 1) + 1)
            if any(entry.type is not EntryType.NORMAL for entry in page):
                return True
            low += len(page)
        return False

    # --- appending and committing ---------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> int:
        """Append entries, replacing what follows the one before the first. Returns the last index.

        The caller has made sure that nothing committed is replaced.
        """
        if entries:
            first = entries[0].index
            invariant(first > self.committed, "entry %d would replace a committed one (%d)", first, self.committed)
            self.unstable.truncate_and_append(entries)
            self._last_index = entries[-1].index
        return self._last_index

    def first_conflict(self, entries: Sequence[Entry]) -> int:
        """Position of the first of `entries` that the log does not hold yet; their number if it holds all."""
        last_index = self._last_index
        for position, entry in enumerate(entries):
            if entry.index > last_index:
                return position
            if not self.matches(entry.term, entry.index):
                self._logger.info(
                    "entry %d of term %d conflicts with the one of term %s here",
                    entry.index,
                    entry.term,
                    self.try_term(entry.index),
                )
                return position
        return len(entries)

    def commit_to(self, index: int) -> None:
        """Raise the commit index; a lower one is stale and ignored. `index` must not lie behind the last entry."""
        if index > self.committed:
            invariant(index <= self._last_index, "commit index %d lies behind the log, %d", index, self._last_index)
            self.committed = index

    # --- applying -------------------------------------------------------------------------------------------------

    def has_next_committed(self, allow_unstable: bool) -> bool:
        """Whether there are entries to hand out for application; see `next_committed`."""
        return (
            self.applying < self.committed
            and not self.applying_paused
            and self.unstable.snapshot is None
            and self.applying < self._appliable_index(allow_unstable)
        )

    def next_committed(self, allow_unstable: bool) -> tuple[Entry, ...]:
        """Committed entries not yet handed out for application, as far as the byte limit allows.

        None as long as a snapshot waits to be stored. `allow_unstable` lets those pass that are not durable here.
        """
        if not self.has_next_committed(allow_unstable):
            return ()
        room = self.applying_bytes_max if self._is_unlimited() else self.applying_bytes_max - self.applying_bytes
        return self.slice(self.applying + 1, self._appliable_index(allow_unstable) + 1, room)

    def accept_applying(self, index: int, encoded_bytes: int, allow_unstable: bool) -> None:
        """Entries up to `index` have been handed out; pause if that used up the limit or stopped short of the end."""
        invariant(index <= self.committed, "entry %d is applied before it is committed", index)
        self.applying = index
        self.applying_bytes += encoded_bytes
        self.applying_paused = self.applying_bytes >= self.applying_bytes_max or index < self._appliable_index(
            allow_unstable
        )

    def applied_to(self, index: int, encoded_bytes: int) -> None:
        """The application has applied everything up to `index`, of which `encoded_bytes` had been handed out."""
        invariant(
            self.applied <= index <= self.committed,
            "applied index %d lies outside of [%d, %d]",
            index,
            self.applied,
            self.committed,
        )
        self.applied = index
        self.applying = max(self.applying, index)
        self.applying_bytes = max(self.applying_bytes - encoded_bytes, 0)
        self.applying_paused = self.applying_bytes >= self.applying_bytes_max

    def _appliable_index(self, allow_unstable: bool) -> int:
        return self.committed if allow_unstable else min(self.committed, self.unstable.offset - 1)

    def _is_unlimited(self) -> bool:
        return self.applying_bytes_max >= UNLIMITED

    # --- storage --------------------------------------------------------------------------------------------------

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a received snapshot."""
        self._logger.info("log is replaced by the snapshot at index %d of term %d", snapshot.index, snapshot.term)
        self.unstable.restore(snapshot)
        self._last_index = self.committed = snapshot.index

    def stable_to(self, term: int, index: int) -> None:
        """Storage holds every entry up to this one; ignored if the entry was replaced since."""
        if self.unstable.stable_to(term, index):
            return
        if index < self.unstable.offset:
            # Normal: two acknowledgements may name the same last entry.
            self._logger.debug("entry %d of term %d was stored, as is known already", index, term)
        else:
            self._logger.info("entry %d of term %d was stored, but has been replaced since", index, term)


_PAGE_ENTRIES = 1024


def _cut(entries: tuple[Entry, ...], bytes_max: int) -> tuple[Entry, ...]:
    return entries if bytes_max >= UNLIMITED else entries[: prefix_count(entries, bytes_max)]
