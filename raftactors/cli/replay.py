"""`raftactors replay`: the log of one node, run through its application again, with what every command changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from raftactors.app.time_travel import Step
from raftactors.cli.options import AsJson
from raftactors.cli.output import print_json, print_value
from raftactors.cli.requests import parse_argument
from raftactors.cli.step_output import command_lines, header_line, step_document
from raftactors.cli.terminal import is_terminal, make_console, visible
from raftactors.cli.values import ValuesCommand
from raftactors.cluster.history import History, OnProgress
from raftactors.cluster.working_folder import search_here
from raftactors.config import hash_seed
from raftactors.errors import IndexUnknownError

_BAR_FROM_ENTRIES = 5_000
"""Shorter runs are over before a progress bar could be read."""

_QUIT = -1


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(cls=ValuesCommand)(replay)


def replay(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data folder of one node, running or not.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS", help="Of the query; read as JSON where they are JSON, else as text."),
    ] = None,
    *,
    application: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:CLASS", help="The application. Default: the node's own."),
    ] = None,
    first: Annotated[
        int | None, typer.Option("--from", metavar="INDEX", help="Show from this index on; run what is before.")
    ] = None,
    until: Annotated[
        int | None, typer.Option("--until", metavar="INDEX", help="Stop after this index. Default: the last one.")
    ] = None,
    step: Annotated[bool, typer.Option("--step", help="Wait for Enter after each command.")] = False,
    query: Annotated[
        str | None,
        typer.Option("--query", metavar="METHOD", help="Run this query at the end, with ARGS; show only its result."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the log of a node through its application, and show each command, its result and what it changed.

    Begins at the nearest snapshot. The folder is only read; the node may be running. With --query only the result
    of the query is shown, unless --from or --step asks for the commands too.
    """
    if arguments and query is None:
        raise typer.BadParameter(f"{arguments[0]!r} is an argument of a query; name the query with --query METHOD")
    if step and not (is_terminal(sys.stdin) and is_terminal(sys.stdout) and not as_json):
        raise typer.BadParameter("--step waits for keys, so it needs a terminal and no --json")
    with History(folder, application, search_in=search_here()) as history:
        _same_hash_seed(history.stored.identity.cluster_id)
        last = history.last_index if until is None else until
        history.check_index(last)
        view = _View(history, as_json=as_json)
        if query is None or first is not None or step:
            view.show(last, first=first, waits=step)
        else:
            with view.progress() as on_progress:
                history.go_to(last, on_progress)
        view.warn()
        if query is not None:
            result = history.go_to(last).query(query, [parse_argument(argument) for argument in arguments or []])
            print_value(result, as_json=as_json)
        elif not step:
            view.show_end()


class _View:
    """Shows a history on a terminal, in a pipe, or as JSON, one object a line."""

    def __init__(self, history: History, *, as_json: bool) -> None:
        self._history = history
        self._as_json = as_json
        self._console = make_console()
        self._warned = 0

    def show(self, last: int, *, first: int | None, waits: bool) -> None:
        """Show the entries from `first`, by default from the nearest snapshot, to `last`."""
        history = self._history
        if first is not None and not history.earliest_index < first <= last:
            raise IndexUnknownError(
                f"--from {first} lies outside of what can be shown: index {history.earliest_index + 1} to {last}"
            )
        start = history.base_before(max(last - 1, 0)) if first is None else first - 1
        with self.progress() as on_progress:
            history.go_to(min(start, last), on_progress)
        self.warn()
        while True:
            jump = self._run(last, waits)
            if jump is None or jump == _QUIT:
                return
            history.go_to(jump - 1)

    def show_end(self) -> None:
        """Where the run ended."""
        travel = self._history.go_to(self._history.applied_index)
        if self._as_json:
            print_json({"applied": travel.applied_index, "digest": f"{travel.digest:08x}"})
        else:
            print(f"applied {travel.applied_index}, digest {travel.digest:08x}")

    def warn(self) -> None:
        """Tell on standard error what is to be known about this history, each thing once."""
        for text in self._history.warnings[self._warned :]:
            print(visible(f"raftactors: note: {text}"), file=sys.stderr, flush=True)
        self._warned = len(self._history.warnings)

    @contextmanager
    def progress(self) -> Iterator[OnProgress | None]:
        """A bar on standard error while a long run is not shown."""
        console = make_console(stderr=True)
        if not is_terminal(sys.stderr) or console.is_dumb_terminal:
            yield None
            return
        columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bars:
            task = bars.add_task("replaying", visible=False)

            def on_progress(done: int, total: int) -> None:
                bars.update(task, completed=done, total=total, visible=total >= _BAR_FROM_ENTRIES)

            yield on_progress

    def _run(self, last: int, waits: bool) -> int | None:
        """Show the entries up to `last`; returns the index that was asked for in between, if any."""
        for step in self._history.steps(last):
            committed = self._history.is_committed(step.index)
            if self._as_json:
                print_json(step_document(step, committed=committed))
                continue
            self._console.print(header_line(step, committed=committed))
            for lines in self._parts(step):
                for line in lines:
                    self._console.print(line)
                if waits and (answer := self._ask(last)) is not None:
                    return answer
        return None

    def _parts(self, step: Step) -> Iterator[list[Text]]:
        """What is shown between two waits."""
        if not step.commands:
            yield []
        for command in step.commands:
            yield command_lines(command)

    def _ask(self, last: int) -> int | None:
        """Wait for a key: None for the next command, an index to jump to, or _QUIT."""
        earliest = self._history.earliest_index + 1
        while True:
            print("Enter: next, q: quit, NUMBER: jump to that index > ", end="", flush=True)
            line = sys.stdin.readline()
            if not line:
                return _QUIT
            answer = line.strip().lower()
            if answer in {"", "n"}:
                return None
            if answer == "q":
                return _QUIT
            if answer.isdecimal() and earliest <= int(answer) <= last:
                return int(answer)
            print(f"{answer!r} is no key of these, and no index from {earliest} to {last}")


def _same_hash_seed(cluster_id: int) -> None:
    """Start again with the nodes' own hash seed, so that an application that iterates a set does it in their order.

    Only when this process is the command itself: another program that calls it has to see to that on its own.
    """
    seed = hash_seed(cluster_id)
    words = [word for word in sys.argv[1:] if word != "--json"]
    if words[:1] == ["replay"] and os.environ.get("PYTHONHASHSEED") != seed:
        os.environ["PYTHONHASHSEED"] = seed
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # our own program, our own arguments
