"""For applications whose state can be set aside at once and written down later, while commands go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from raftactors.app.application import Application


class FreezableApplication(Application):
    """Base of a state machine with a large state: its snapshot is written beside the commands, and piece by piece.

    The state is a sequence of *pieces*, each a value as `Application.snapshot` may return one, best of some 64 KiB.
    Equal states must give equal pieces. An application without this base is encoded as a whole between two commands,
    which for 100 MiB takes about as many milliseconds as there are megabytes; nothing is applied meanwhile.
    """

    reserved_names: ClassVar[frozenset[str]] = Application.reserved_names | {
        "pieces",
        "freeze",
        "thaw",
        "restore_pieces",
    }

    def pieces(self) -> Iterator[object]:
        """The state as it is now; read to its end before the next command."""
        raise NotImplementedError

    def freeze(self) -> Iterator[object]:
        """The same, but read later, on another thread, while commands change the state: what comes out must not.

        Should take no time that grows with the state. Not called again before `thaw`.
        """
        raise NotImplementedError

    def thaw(self) -> None:
        """What `freeze` returned has been read, or will not be. Called between two commands."""
        raise NotImplementedError

    def restore_pieces(self, pieces: Iterable[Any]) -> None:
        """Become what the pieces describe; raises ApplicationStateError if they describe nothing of this class."""
        raise NotImplementedError

    def snapshot(self) -> object:
        """All pieces as one list."""
        return list(self.pieces())

    def restore(self, state: Any) -> None:
        """Become what `snapshot` described."""
        self.restore_pieces(state)
