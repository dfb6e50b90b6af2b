"""Running a long search in several processes, each with its share, with one progress bar for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[2]


def tell(**words: object) -> None:
    """One line from a share to whoever started it."""
    print(json.dumps(words), flush=True)


def run_shares(module: str, arguments: list[str], *, total: int, title: str) -> list[dict[str, Any]]:
    """Run `python -m module ARGUMENTS --share i/n` for every core; returns what each told last.

    A share tells `done=COUNT` as it goes and `result=...` at its end. Raises CalledProcessError if one fails.
    """
    count = len(os.sched_getaffinity(0))
    commands = [[sys.executable, "-m", module, *arguments, "--share", f"{i}/{count}"] for i in range(count)]
    shares = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for command in commands]
    results: list[dict[str, Any]] = [{} for _ in shares]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task(title, total=total)

            def follow(i: int) -> None:
                for line in shares[i].stdout or ():
                    told = json.loads(line)
                    progress.advance(task, told.get("done", 0))
                    results[i] = told.get("result", results[i])

            readers = [threading.Thread(target=follow, args=(i,)) for i in range(count)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
    finally:
        for share in shares:
            share.kill()
            share.wait()
            if share.stdout is not None:
                share.stdout.close()
    for share, command, result in zip(shares, commands, results, strict=True):
        if not result:
            raise subprocess.CalledProcessError(share.returncode, command)
    return results


def parse_share(text: str) -> tuple[int, int]:
    """`0/2` as (0, 2)."""
    first, _, second = text.partition("/")
    return int(first), int(second)
