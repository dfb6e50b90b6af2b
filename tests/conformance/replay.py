"""Replays golden traces against the core: `python tests/conformance/replay.py PATH...` (files or folders).

The last line is `N passed, M failed`; the exit code is 1 if anything failed, 2 if a path holds no trace.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.progress import track

from tests.conformance.compare import Difference
from tests.conformance.replaying import TraceFailure, load_trace, replay, trace_paths

_PROGRESS_EVERY = 25

_Result = TypeVar("_Result")


def replay_file(path: Path) -> TraceFailure | None:
    """Replay one file; a file that cannot be read is a failure, too."""
    try:
        lines = load_trace(path)
    except (OSError, EOFError, ValueError) as error:
        return TraceFailure(None, {}, Difference("file", "gzip, one JSON object a line", str(error)))
    return replay(lines)


def _results(paths: list[Path], jobs: int) -> Iterator[tuple[Path, TraceFailure | None]]:
    if jobs == 1:
        for path in paths:
            yield path, replay_file(path)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(replay_file, path): path for path in paths}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _with_progress(results: Iterable[_Result], total: int) -> Iterator[_Result]:
    """Show how far we are: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(results, description="replaying", total=total, console=console)
        return
    for number, result in enumerate(results, start=1):
        yield result
        if number % _PROGRESS_EVERY == 0 and number < total:
            print(f"{number} of {total} replayed", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Replay golden traces against raftactors.core.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a trace file or a folder of them")
    parser.add_argument("--show", type=int, default=5, metavar="N", help="show at most N failures in full (default 5)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="replay in N processes (default 1)")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.show < 0:
        parser.error("--jobs must be at least 1 and --show at least 0")
    try:
        paths = list(trace_paths(options.paths))
    except FileNotFoundError as error:
        parser.error(str(error))
    results = _with_progress(_results(paths, min(options.jobs, len(paths))), len(paths))
    failures = {path: failure for path, failure in results if failure is not None}
    for number, path in enumerate(sorted(failures)):
        if number < options.show:
            print(f"FAILED {path}\n{failures[path].describe()}")
        else:
            failure = failures[path]
            print(f"FAILED {path} at operation {failure.number}, {failure.difference.path}")
    print(f"{len(paths) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
