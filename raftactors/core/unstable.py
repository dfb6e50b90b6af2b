"""The end of the log that is not known to be durable yet."""

from __future__ import annotations

from collections.abc import Sequence

from raftactors.core.types import Entry, Snapshot


class Unstable:
    """Entries from `offset` on, and at most one received snapshot, until storage has acknowledged them.

    Entries in [offset, offset_in_progress) have been handed out for writing. The snapshot, if there is one, ends at
    offset-1 as long as its entries have not been written through. Storage may hold other entries from `offset` on:
    those here win.
    """

    __slots__ = ("entries", "offset", "offset_in_progress", "snapshot", "snapshot_in_progress")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.offset_in_progress = offset
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False

    def term(self, index: int) -> int | None:
        """The term of an entry, or of the snapshot's last one; None if it is not held here."""
        position = index - self.offset
        if position >= 0:
            entries = self.entries
            return entries[position].term if position < len(entries) else None
        if self.snapshot is not None and self.snapshot.index == index:
            return self.snapshot.term
        return None

    def has_next_entries(self) -> bool:
        """Whether there are entries that were not handed out for writing."""
        return self.offset + len(self.entries) > self.offset_in_progress

    def next_entries(self) -> tuple[Entry, ...]:
        """The entries that were not handed out for writing."""
        position = self.offset_in_progress - self.offset
        entries = self.entries
        if position >= len(entries):
            return ()
        return tuple(entries[position:] if position else entries)

    def next_snapshot(self) -> Snapshot | None:
        """The snapshot, unless it was handed out for writing."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept_in_progress(self) -> None:
        """Everything held has been handed out for writing."""
        self.offset_in_progress = self.offset + len(self.entries)
        self.snapshot_in_progress = self.snapshot is not None

    def stable_to(self, term: int, index: int) -> bool:
        """Let go of the entries up to `index`, which storage holds, if the one at `index` is of `term`.

        Returns False if it is not: the entries were replaced while they were being written, and the acknowledgement
        says nothing about those that replaced them.
        """
        position = index - self.offset
        if position < 0 or self.term(index) != term:
            return False
        del self.entries[: position + 1]
        self.offset = index + 1
        self.offset_in_progress = max(self.offset_in_progress, self.offset)
        return True

    def stable_snapshot_to(self, index: int) -> None:
        """Let go of the snapshot, which storage holds, if it ends at `index`."""
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything by a received snapshot."""
        self.offset = self.offset_in_progress = snapshot.index + 1
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: Sequence[Entry]) -> None:
        """Put `entries` behind, or in place of, what is held from the first of them on.

        What they replace must be written again, even if the entries before `offset` are in storage already.
        """
        first = entries[0].index
        position = first - self.offset
        if position == len(self.entries):
            self.entries.extend(entries)
        elif position <= 0:
            self.offset = self.offset_in_progress = first
            self.entries = list(entries)
        else:
            del self.entries[position:]
            self.entries.extend(entries)
            self.offset_in_progress = min(self.offset_in_progress, first)

    def slice(self, low: int, high: int) -> tuple[Entry, ...]:
        """Entries low..high-1, all of which must be held here."""
        offset = self.offset
        return tuple(self.entries[low - offset : high - offset])
