"""Notices that this process was forked: what the parent made with threads and sockets cannot be used in the child."""

from __future__ import annotations

import os
from typing import ClassVar

from raftactors.errors import ForkedError


class Lineage:
    """`forks` is how many forks lie between this process and the one that imported this module.

    Whoever belongs to one process keeps the number and compares: that is cheap, and holds without a system call.
    """

    forks: ClassVar[int] = 0

    @classmethod
    def count(cls) -> None:
        """This process has just been forked."""
        cls.forks += 1


os.register_at_fork(after_in_child=Lineage.count)


def forked_error() -> ForkedError:
    """The error of a client, or of a request under way, that was inherited by a fork."""
    return ForkedError(
        "the client was made before the fork that made this process, and belongs to the parent; make a new client "
        "after the fork, or start processes with the method spawn; nothing was sent from here"
    )
