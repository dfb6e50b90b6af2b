"""The simulator from the shell: many seeds in several processes, or one of them in detail."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raftactors.errors import ConfigError
from raftactors.testing.simulation import EVENTS_MAX, FAULT_KINDS, Outcome, simulate
from raftactors.testing.simulation.reporting import Variant, explain, replay_command, run_seed, summarize

SHOWN_FAILURES = 5


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if not seeds or seeds[0] < 0:
        raise ValueError(text)
    return seeds


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m raftactors.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=range(1, 101), metavar="A-B", help="seeds to run (1-100)")
    parser.add_argument("--seed", type=int, help="run this seed alone and show its digest")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every event")
    parser.add_argument("--without", default="", metavar="FAULTS", help="switch faults off, separated by commas")
    parser.add_argument("--events", type=int, default=EVENTS_MAX, help=f"events with faults ({EVENTS_MAX})")
    parser.add_argument("--workload", default="", metavar="MODULE:CLASS", help="what to run (the key-value store)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    without = tuple(name for name in options.without.split(",") if name)
    unknown = set(without) - set(FAULT_KINDS)
    if unknown:
        parser.error(f"unknown faults {sorted(unknown)}; known are {', '.join(FAULT_KINDS)}")
    if options.jobs < 1 or options.events < 1:
        parser.error("--jobs and --events must be at least 1")
    options.variant = Variant(without, options.events, options.workload)
    return options


def _outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    task = partial(run_seed, variant=options.variant)
    if options.jobs == 1:
        yield from map(task, options.seeds)
        return
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(task, options.seeds, chunksize=8)


def _with_progress(outcomes: Iterator[Outcome], total: int, console: Console) -> Iterator[Outcome]:
    """A bar on a terminal, a line now and then elsewhere."""
    started = time.perf_counter()
    if not console.is_terminal:
        every = max(100, total // 20)
        for number, outcome in enumerate(outcomes, start=1):
            yield outcome
            if number % every == 0 and number < total:
                speed = number / (time.perf_counter() - started)
                console.print(f"{number} of {total} seeds, {speed:.1f} a second", markup=False)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("seeds", total=total)
        failures = 0
        for number, outcome in enumerate(outcomes, start=1):
            yield outcome
            failures += not outcome.ok
            speed = number / (time.perf_counter() - started)
            progress.update(bar, advance=1, description=f"{failures} failed, {speed:.1f} seeds/s")


def _one(options: argparse.Namespace) -> int:
    variant: Variant = options.variant
    trace = print if options.trace else None
    outcome = simulate(
        options.seed, variant.load(), without=variant.without, events_max=variant.events_max, trace=trace
    )
    if options.json:
        print(json.dumps(asdict(outcome)))
    else:
        print(f"seed {outcome.seed}: {outcome.text or 'every promise kept'}")
        print(f"{outcome.events} events, {outcome.virtual_ms} ms of virtual time, digest {outcome.digest}")
    return 0 if outcome.ok else 1


def _totals(options: argparse.Namespace, console: Console) -> tuple[Counter[str], Counter[str], list[Outcome], int]:
    coverage: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    failed: list[Outcome] = []
    events = 0
    for outcome in _with_progress(_outcomes(options), len(options.seeds), console):
        coverage.update(outcome.coverage)
        reached.update(name for name, number in outcome.coverage.items() if number)
        events += outcome.events
        if not outcome.ok:
            failed.append(outcome)
    return coverage, reached, failed, events


def _document(options: argparse.Namespace, failed: list[Outcome], coverage: Counter[str], seconds: float) -> str:
    failures = [
        {
            "seed": outcome.seed,
            "rule": outcome.rule,
            "text": outcome.text,
            "digest": outcome.digest,
            "replay": replay_command(outcome.seed, options.variant),
        }
        for outcome in failed
    ]
    total = len(options.seeds)
    document = {
        "seeds": total,
        "seconds": round(seconds, 3),
        "seeds_per_second": round(total / seconds, 2),
        "failed": failures,
        "coverage": dict(sorted(coverage.items())),
    }
    return json.dumps(document)


def _many(options: argparse.Namespace) -> int:
    console = Console(stderr=options.json, soft_wrap=True, markup=False, highlight=False)
    started, total = time.perf_counter(), len(options.seeds)
    coverage, reached, failed, events = _totals(options, console)
    seconds = time.perf_counter() - started
    if options.json:
        print(_document(options, failed, coverage, seconds))
        return 1 if failed else 0
    lines = summarize(coverage, reached, total)
    for outcome in failed[:SHOWN_FAILURES]:
        lines += explain(outcome, options.variant)
    if len(failed) > SHOWN_FAILURES:
        lines.append(f"also failed: {' '.join(str(outcome.seed) for outcome in failed[SHOWN_FAILURES:])}")
    lines.append(
        f"{total} seeds, {events} events in {seconds:.1f} s: {total / seconds:.1f} seeds/s, {events / seconds:.0f} "
        f"events/s, {options.jobs} processes on {os.cpu_count()} cores"
    )
    lines.append(f"{total - len(failed)} passed, {len(failed)} failed")
    for line in lines:
        console.print(line)
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when every promise was kept, 1 when one was broken, 2 for bad arguments."""
    options = _arguments(arguments)
    try:
        return _many(options) if options.seed is None else _one(options)
    except ConfigError as error:
        print(f"simulation: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
