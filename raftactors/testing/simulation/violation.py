"""What the simulator throws when a promise is broken."""

from __future__ import annotations

from raftactors.errors import RaftActorsError


class Violation(RaftActorsError):
    """A promise is broken. `rule` is its short name, stable enough to compare two runs by."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


def require(condition: object, rule: str, text: str, *arguments: object) -> None:
    """Raise Violation with `text % arguments` unless `condition` is true."""
    if not condition:
        raise Violation(rule, text % arguments if arguments else text)
