"""An application of the tests' own, and what the simulator shall ask of it."""

from __future__ import annotations

from random import Random

from raftactors.app.application import Application, command, query
from raftactors.app.context import Context
from raftactors.testing.simulation import Call


class Counter(Application):
    """Adds numbers up, and remembers the place of the last one."""

    def __init__(self) -> None:
        self.total = 0
        self.last_index = 0

    @command
    def add(self, number: int, context: Context) -> int:
        """Add; returns the sum so far."""
        self.total += number
        self.last_index = context.index
        return self.total

    @query
    def value(self) -> list[int]:
        """The sum and where it was last changed."""
        return [self.total, self.last_index]


class Counting:
    """The workload."""

    def application(self) -> Application:
        """A counter at 0."""
        return Counter()

    def command(self, rng: Random, unique: str) -> Call:
        """Add something."""
        return Call("add", [rng.randrange(100)])

    def query(self, rng: Random) -> Call:
        """Look."""
        return Call("value", [])


class Forgetful(Counting):
    """The same with an application whose snapshots leave something out."""

    def application(self) -> Application:
        """A counter that cannot be trusted."""
        return ForgetfulCounter()


class ForgetfulCounter(Counter):
    """Forgets the sum in a snapshot."""

    def snapshot(self) -> object:
        """Only the half of it."""
        return {"total": 0, "last_index": self.last_index}
