"""Measures how many seeds each mutant needs: `python tests/simulation/measure_mutants.py [--jobs N] [NAME...]`.

Each mutant is run from several starting seeds on; the median is over these searches. Prints the rows of the table in
docs/testing.md and writes the seeds that `test_mutants.py` begins with.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.simulation.catching import SEEDS_FILE, Catch, catch, known_seeds
from tests.simulation.mutant import CaughtBy
from tests.simulation.mutants import MUTANTS

SEARCH_SEEDS_MAX = 1_000
KEPT_SEEDS = 3


def search(name: str, first_seed: int, seeds_max: int) -> Catch | None:
    """Look for the mutant from one seed on."""
    return catch(MUTANTS[name], range(first_seed, first_seed + seeds_max))


def row(name: str, catches: list[Catch | None], seeds_max: int) -> str:
    """One line of the table."""
    mutant, found = MUTANTS[name], [catch for catch in catches if catch is not None]
    if not found:
        return f"| `{name}` | {mutant.story} | **not caught** | more than {seeds_max} |"
    if mutant.caught_by is CaughtBy.TRACES:
        return f"| `{name}` | {mutant.story} | golden trace `{found[0].rule}` | - |"
    rules = ", ".join(f"`{rule}`" for rule in sorted({catch.rule for catch in found}))
    runs = [catch.runs if catch is not None else seeds_max + 1 for catch in catches]
    median = statistics.median_low(runs)
    shown = str(median) if median <= seeds_max else f"more than {seeds_max}"
    if mutant.caught_by is CaughtBy.DISK:
        shown += " (disk alone)"
    return f"| `{name}` | {mutant.story} | {rules} | {shown} |"


def keep(name: str, catches: list[Catch | None]) -> None:
    """Write down which seeds caught a mutant."""
    seeds = known_seeds() if SEEDS_FILE.exists() else {}
    seeds[name] = [found.seed for found in catches if found is not None][:KEPT_SEEDS]
    SEEDS_FILE.write_text(json.dumps(dict(sorted(seeds.items())), indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 if a mutant was not caught in every search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to measure (all)")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--searches", type=int, default=5, help="searches a mutant (default 5)")
    parser.add_argument("--seeds-max", type=int, default=SEARCH_SEEDS_MAX, help="seeds a search (default 1000)")
    options = parser.parse_args(arguments)
    names = options.names or list(MUTANTS)
    catches: dict[str, dict[int, Catch | None]] = {name: {} for name in names}
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {}
        for name in names:
            for number in range(1 if (MUTANTS[name].caught_by is CaughtBy.TRACES) else options.searches):
                first = 1 + number * SEARCH_SEEDS_MAX
                waiting[pool.submit(search, name, first, options.seeds_max)] = (name, first)
        for done in as_completed(waiting):
            name, first = waiting[done]
            catches[name][first] = done.result()
            if len(catches[name]) == (1 if (MUTANTS[name].caught_by is CaughtBy.TRACES) else options.searches):
                found = [catches[name][key] for key in sorted(catches[name])]
                print(row(name, found, options.seeds_max), flush=True)
                if MUTANTS[name].caught_by is not CaughtBy.TRACES:
                    keep(name, found)
    return 0 if all(catch is not None for found in catches.values() for catch in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
