"""For applications that keep their own data: what they must do so that data and applied index move together.

The data and the progress of the replica (applied index, session table, replicated time) change in one transaction of
the application's own store, one for each batch of entries. After a crash the store is at the end of some batch, never
inside one, and says itself where: entries up to there are not executed again, and commands that clients repeat get the
results that were kept with the data. So every command takes effect once, wherever the process was killed.

The transaction need not be synced to the disk. What it may lose in a power cut stands in the log, which is synced
before anything is applied, or in the snapshot that the log begins with; the node applies it again. It must be whole or
not there, and transactions must vanish in the order from the last one backwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from raftactors.app.application import Application
from raftactors.app.freezing import FreezableApplication

Rows = Mapping[bytes, bytes | None]
"""Rows to put in place of those with the same keys; None removes the row, if there is one."""


class OnDiskApplication(Application, ABC):
    """Base of a state machine whose state is in a store of its own: a database, a file, another program.

    Commands run between `begin` and `commit`, queries outside of both, all on one thread; `open` may be called on
    another one, before. The node calls the methods in this order: `open`, then any number of `begin`, commands,
    `commit`, and `close`. What `commit` did not return from must, after a crash, be there as a whole or not at all.

    A command that fails because of the store and not because of its arguments must not answer with an error, since it
    would succeed on the other replicas: see `is_store_error`. What a command raises otherwise goes to its caller, and
    the transaction goes on with what it left behind.
    """

    reserved_names: ClassVar[frozenset[str]] = Application.reserved_names | {
        "open",
        "begin",
        "commit",
        "close",
        "is_store_error",
    }

    @abstractmethod
    def open(self, folder: Path) -> Mapping[bytes, bytes]:
        """Open the store in `folder`, which exists and is this node's alone; make it if there is none.

        Returns the rows that the commits so far have put and not removed: none for a new store.
        """

    @abstractmethod
    def begin(self) -> None:
        """Begin the transaction of a batch of entries."""

    @abstractmethod
    def commit(self, rows: Rows) -> None:
        """Put the rows beside the data and end the transaction: everything since `begin`, or in a crash nothing.

        Keys have at most 17 bytes, a value at most as much as a result. What they mean is the node's affair.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the store; what was not committed is dropped. May be called without `open`."""

    @abstractmethod
    def snapshot(self) -> object:
        """The whole state as one value of None, bool, int, float, str, bytes, list and dict, without the rows."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Replace the whole state by what `snapshot` described; called between `begin` and `commit`."""

    def is_store_error(self, error: Exception) -> bool:
        """Whether what a command or query raised is a failure of this node's store. Then the node stops.

        By default OSError: a full disk, a file that cannot be read.
        """
        return isinstance(error, OSError)


class FreezableOnDiskApplication(FreezableApplication, OnDiskApplication):
    """Base of one whose store can be read as it was while commands change it: its snapshots stop nothing.

    A database does this with a second connection whose read transaction begins in `freeze`. Any other
    OnDiskApplication is encoded as a whole, in memory, between two batches.
    """

    reserved_names: ClassVar[frozenset[str]] = FreezableApplication.reserved_names | OnDiskApplication.reserved_names
