"""The deterministic simulator: a whole cluster in one thread and virtual time, drawn from a seed.

    outcome = simulate(42)
    assert outcome.ok, outcome.text

With a `Workload` of one's own it runs any `Application`. The same from the shell: `python -m
raftactors.testing.simulation --seeds 1-1000`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from raftactors.testing.simulation.plan import EVENTS_MAX, FAULT_KINDS, Plan, draw_plan
from raftactors.testing.simulation.simulation import Outcome, Simulation
from raftactors.testing.simulation.violation import Violation
from raftactors.testing.simulation.workload import Call, KeyValueWorkload, Workload

__all__ = [
    "EVENTS_MAX",
    "FAULT_KINDS",
    "Call",
    "KeyValueWorkload",
    "Outcome",
    "Plan",
    "Simulation",
    "Violation",
    "Workload",
    "draw_plan",
    "simulate",
]


def simulate(
    seed: int,
    workload: Workload | None = None,
    *,
    without: Collection[str] = (),
    events_max: int = EVENTS_MAX,
    trace: Callable[[str], None] | None = None,
) -> Outcome:
    """Run one seed. `without` switches faults off, `events_max` cuts the part with faults, `trace` gets each event."""
    return Simulation(draw_plan(seed, without=without, events_max=events_max), workload, trace).outcome()
