"""What a forked copy of this process must let go: the cluster belongs to the process that started it.

A copy has copies of all descriptors. A lock, a port or a node would be held by it for as long as it lives, also after
the original has died.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from raftactors.errors import RaftActorsError


class Inheritable(Protocol):
    """Something with descriptors that means nothing in a forked copy."""

    def let_go(self) -> None:
        """Close what was inherited, in the forked copy, and change nothing that the original sees.

        Only the thread that forked lives there, and any lock may be held for ever, so none may be taken.
        """


_inheritables: weakref.WeakSet[Inheritable] = weakref.WeakSet()


def let_go_after_fork(thing: Inheritable) -> None:
    """Have `thing` let go in every copy that is forked from now on, as long as it exists."""
    _inheritables.add(thing)


def close_inherited(descriptor: int) -> int:
    """Close a descriptor if there is one; returns -1, which stands for none."""
    if descriptor >= 0:
        os.close(descriptor)
    return -1


class ForkGuard:
    """Remembers which process made it."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_copy(self) -> bool:
        """Whether this is a forked copy of the process that made it."""
        return os.getpid() != self._pid

    def refuse_copy(self) -> None:
        """Raise RaftActorsError in a forked copy."""
        if self.is_copy:
            raise RaftActorsError(
                f"this process was forked from process {self._pid}, to which the cluster belongs; use the cluster "
                "there, or reach it from here with a Client of your own made after the fork"
            )


def _let_go() -> None:
    for thing in list(_inheritables):
        thing.let_go()


os.register_at_fork(after_in_child=_let_go)
