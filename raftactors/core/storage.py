"""What the core reads below its unstable entries, and the in-memory implementation of it."""

from __future__ import annotations

from typing import Protocol

from raftactors.core.types import ConfState, Entry, HardState, Snapshot


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
