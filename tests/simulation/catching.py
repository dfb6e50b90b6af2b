"""Running a mutant until somebody notices."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import NamedTuple

from pytest import MonkeyPatch

from raftactors.core.types import Entry, HardState
from raftactors.storage import WalBatch
from raftactors.testing.simulation import Violation, simulate
from raftactors.testing.simulation.disk import Durable, SimulatedDisk
from tests.conformance.replaying import load_trace, replay
from tests.conformance.shared_files import TRACES
from tests.simulation.mutant import CaughtBy
from tests.simulation.mutants import Mutant

SEEDS_FILE = Path(__file__).with_name("catching_seeds.json")
RUN_SECONDS_MAX = 20


class Catch(NamedTuple):
    """What noticed the bug: a seed and the rule that was broken, or (seed 0) a golden trace; `runs` it took."""

    seed: int
    rule: str
    runs: int


def catch(mutant: Mutant, seeds: Iterable[int]) -> Catch | None:
    """Run what is to notice the mutant; `seeds` bounds how long."""
    if mutant.caught_by is CaughtBy.TRACES:
        return catch_by_trace(mutant)
    return (catch_by_seed if mutant.caught_by is CaughtBy.SEEDS else catch_by_disk)(mutant, seeds)


class _Hang(BaseException):
    """A run that does not end."""


def known_seeds() -> dict[str, list[int]]:
    """Seeds that were seen to catch each mutant, as `measure_mutants.py` wrote them down."""
    seeds: dict[str, list[int]] = json.loads(SEEDS_FILE.read_text(encoding="utf-8"))
    return seeds


def catch_by_seed(mutant: Mutant, seeds: Iterable[int]) -> Catch | None:
    """Run seeds with the bug in place; the first broken promise, or None."""
    with MonkeyPatch.context() as patch:
        mutant.plant(patch)
        for runs, seed in enumerate(seeds, start=1):
            rule = _run(seed)
            if rule:
                return Catch(seed, rule, runs)
    return None


def catch_by_trace(mutant: Mutant) -> Catch | None:
    """Replay the golden traces with the bug in place; the first that departs, or None."""
    with MonkeyPatch.context() as patch:
        mutant.plant(patch)
        for runs, path in enumerate(sorted(TRACES.glob("trace-*.jsonl.gz")), start=1):
            failure = replay(load_trace(path))
            if failure is not None:
                return Catch(0, path.name.split(".")[0], runs)
    return None


def catch_by_disk(mutant: Mutant, seeds: Iterable[int]) -> Catch | None:
    """Write, replace and cut off batches on one simulated disk with the bug in place, until it comes back wrong."""
    with MonkeyPatch.context() as patch:
        mutant.plant(patch)
        for runs, seed in enumerate(seeds, start=1):
            try:
                use_disk(seed)
            except Violation as violation:
                return Catch(seed, violation.rule, runs)
    return None


def use_disk(seed: int) -> None:
    """One life of a disk, each start ended by a power cut during a write. Raises Violation for a log that is wrong."""
    rng = Random(seed)
    disk = SimulatedDisk(1, rng, 16 * 1_024)
    for term in range(1, 6):
        disk.open()
        for _ in range(rng.randrange(4)):
            disk.append([_random_batch(rng, disk.durable, term)])
        disk.cut_power_during([_random_batch(rng, disk.durable, term)], 1)
        disk.crash(power=True)
    disk.open()


def _random_batch(rng: Random, durable: Durable, term: int) -> WalBatch:
    """Entries at the end of the log or in place of its last ones, some longer than a sector."""
    committed = durable.hard_state.commit
    first = rng.randint(max(committed, durable.last_index - 3), durable.last_index) + 1
    entries = [
        Entry(term, index, rng.randbytes(rng.choice((10, 2_000)))) for index in range(first, first + rng.randint(1, 3))
    ]
    return WalBatch(HardState(term, 1, rng.randint(committed, first - 1)), entries)


def _run(seed: int) -> str:
    try:
        with _time_limit():
            return simulate(seed).rule
    except _Hang:
        return "hang"


@contextmanager
def _time_limit() -> Iterator[None]:
    """A bug may loop for ever, which is one way of being noticed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Hang

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(RUN_SECONDS_MAX)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
