"""An application that remembers everything that was ever done to it, so that a loss or a repetition shows."""

from __future__ import annotations

from raftactors import Application, command, query


class Ledger(Application):
    """Numbers by writer, in the order in which they were executed."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = {}

    @command
    def append(self, writer: str, number: int) -> int:
        """Note one number; returns how many this writer has."""
        numbers = self.numbers.setdefault(writer, [])
        numbers.append(number)
        return len(numbers)

    @query
    def part(self, writer: str, start: int, count: int) -> list[int]:
        """A part of a writer's numbers."""
        return self.numbers.get(writer, [])[start : start + count]

    @query
    def blank(self, size: int) -> bytes:
        """So many zeros, for those who want large answers."""
        return bytes(size)
