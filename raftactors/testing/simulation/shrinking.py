"""Making a failing run small: fewer faults, fewer events, the same broken promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from raftactors.testing.simulation.plan import FAULT_KINDS
from raftactors.testing.simulation.simulation import Outcome

RUNS_MAX = 60

Run = Callable[[tuple[str, ...], int], Outcome]
"""Runs the seed without some faults, with the part that has faults cut to a number of events."""


class Smallest(NamedTuple):
    """The smallest run found that breaks the same promise. `struck` are the faults that it needs."""

    outcome: Outcome
    without: tuple[str, ...]
    events_max: int
    struck: tuple[str, ...]
    runs: int


def shrink(failed: Outcome, run: Run, *, without: tuple[str, ...], events_max: int) -> Smallest:
    """Switch one fault after the other off, then halve the events, as long as the same rule is broken."""
    best, runs = failed, 0

    def still_fails(candidate: tuple[str, ...], limit: int) -> bool:
        nonlocal best, runs
        if runs >= RUNS_MAX:
            return False
        runs += 1
        outcome = run(candidate, limit)
        if outcome.rule == failed.rule:
            best = outcome
            return True
        return False

    events_max = min(events_max, failed.fault_events)
    for kind in FAULT_KINDS:
        candidate = (*without, kind)
        if kind not in without and still_fails(candidate, events_max):
            without = candidate
    step = events_max // 2
    while step > events_max // 64 and step:
        if events_max > step and still_fails(without, events_max - step):
            events_max -= step
        else:
            step //= 2
    struck = tuple(kind for kind in FAULT_KINDS if kind not in without and best.coverage.get(kind))
    return Smallest(best, without, events_max, struck, runs)
