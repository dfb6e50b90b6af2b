"""What a batch of seeds shows: coverage, and each failure with the command that replays it."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from raftactors.testing.simulation import EVENTS_MAX, FAULT_KINDS, Outcome, Workload, simulate
from raftactors.testing.simulation.shrinking import shrink
from raftactors.testing.simulation.workload import load_workload

HISTORY_EVENTS = 40


class Variant(NamedTuple):
    """How seeds are run: faults switched off, events with faults, and the workload ("": the key-value store)."""

    without: tuple[str, ...] = ()
    events_max: int = EVENTS_MAX
    workload: str = ""

    def load(self) -> Workload | None:
        """The workload, None for the key-value store. Raises ConfigError."""
        return load_workload(self.workload) if self.workload else None


def run_seed(seed: int, variant: Variant) -> Outcome:
    """Run one seed, in whatever process."""
    return simulate(seed, variant.load(), without=variant.without, events_max=variant.events_max)


def replay_command(seed: int, variant: Variant) -> str:
    """What replays this very run."""
    parts = ["python -m raftactors.testing.simulation", f"--seed {seed}"]
    if variant.without:
        parts.append(f"--without {','.join(variant.without)}")
    if variant.events_max != EVENTS_MAX:
        parts.append(f"--events {variant.events_max}")
    if variant.workload:
        parts.append(f"--workload {variant.workload}")
    return " ".join(parts)


def explain(outcome: Outcome, variant: Variant) -> list[str]:
    """A failed seed, the smallest run found for it, and the last events of that."""
    smallest = shrink(
        outcome,
        lambda without, events_max: run_seed(outcome.seed, Variant(without, events_max, variant.workload)),
        without=variant.without,
        events_max=variant.events_max,
    )
    found = Variant(smallest.without, smallest.events_max, variant.workload)
    history: deque[str] = deque(maxlen=HISTORY_EVENTS)
    simulate(outcome.seed, found.load(), without=found.without, events_max=found.events_max, trace=history.append)
    return [
        f"seed {outcome.seed}: {outcome.text}",
        f"  digest    {outcome.digest}",
        f"  replay    {replay_command(outcome.seed, variant)}",
        f"  smallest  {replay_command(outcome.seed, found)}",
        f"            {smallest.outcome.events} events instead of {outcome.events}, found in {smallest.runs} runs; "
        f"faults that struck: {', '.join(smallest.struck) or 'none'}",
        f"            {smallest.outcome.text}",
        f"            digest {smallest.outcome.digest}",
        "  last events of it:",
        *(f"    {line}" for line in history),
    ]


_STRIKING = frozenset(FAULT_KINDS) - {"skew", "batching", "expiry"}
"""Faults that strike at a time; the others are in force all the time."""


_WORK = (
    "writes",
    "reads",
    "entries",
    "client_retry",
    "definite_failure",
    "unknown_outcome",
    "session_expired",
    "snapshot_restored",
    "torn_batch",
    "membership_change",
    "stranded_by_change",
)


def summarize(coverage: Counter[str], reached: Counter[str], total: int) -> list[str]:
    """What the seeds went through; `reached` counts the seeds in which something happened at all."""
    steps = sorted(name for name in coverage if name.startswith("step "))
    roles = sorted(name for name in coverage if name.startswith("role "))
    missing = [kind for kind in FAULT_KINDS if kind in _STRIKING and not coverage[kind]]
    lines = [
        "faults, times struck (seeds): "
        + ", ".join(f"{kind} {coverage[kind]} ({reached[kind]})" for kind in FAULT_KINDS if coverage[kind]),
        f"{len(steps)} pairs of role and message, {len(roles)} changes of role: "
        + ", ".join(f"{name[5:].replace(' ', ' > ')} {coverage[name]}" for name in roles),
        "work: " + ", ".join(f"{name} {coverage[name]}" for name in _WORK),
    ]
    return lines + ([f"never struck: {', '.join(missing)}"] if missing and total >= 100 else [])
