"""What a mutant is: one known bug, put in place of the right code for as long as a test runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pytest import MonkeyPatch

from raftactors.core import raft as raft_module
from raftactors.core.messages import Message, MessageType
from raftactors.core.raft import Raft
from raftactors.core.types import Role

Handler = Callable[[Raft, Message], None]


class CaughtBy(Enum):
    """What notices a mutant."""

    SEEDS = "seeds"
    TRACES = "traces"
    DISK = "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One bug. `story` says what is wrong and who shipped it; `plant` puts it into the code.

    `caught_by` names what notices it: whole seeds; the golden traces, for what breaks no promise of the simulator or
    seldom does; or the simulated disk alone under many crashes.
    """

    name: str
    story: str
    plant: Callable[[MonkeyPatch], None]
    caught_by: CaughtBy = CaughtBy.SEEDS


MUTANTS: dict[str, Mutant] = {}


def mutant(
    story: str, *, caught_by: CaughtBy = CaughtBy.SEEDS
) -> Callable[[Callable[[MonkeyPatch], None]], Callable[[MonkeyPatch], None]]:
    """Register the decorated function as the mutant of its name."""

    def register(plant: Callable[[MonkeyPatch], None]) -> Callable[[MonkeyPatch], None]:
        MUTANTS[plant.__name__] = Mutant(name=plant.__name__, story=story, plant=plant, caught_by=caught_by)
        return plant

    return register


def replace_handler(patch: MonkeyPatch, kind: MessageType, make: Callable[[Handler], Handler]) -> None:
    """Let every role that handles `kind` handle it as `make(the right handler)` does."""
    tables = {}
    for role, table in raft_module._HANDLERS.items():
        changed = list(table)
        if changed[kind] is not raft_module._ignore:
            changed[kind] = make(changed[kind])
        tables[role] = tuple(changed)
    for role in Role:
        patch.setitem(raft_module._HANDLERS, role, tables[role])
