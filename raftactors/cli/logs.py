"""`raftactors logs`: what the nodes of a cluster say, whether it runs or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from raftactors.cli.options import DEFAULT_DATA_DIR, AsJson, DataDir, complete_node
from raftactors.cli.output import print_json
from raftactors.cli.terminal import flush_output, make_console, visible
from raftactors.cluster.manifest import load_existing
from raftactors.cluster.node_logs import LogLine, LogTail, interleave, nodes_with_logs
from raftactors.errors import ConfigError, ExitCode

SUPERVISOR = "supervisor"
LINES_MAX = 100_000
_POLL_S = 0.1
_NODE_STYLES = ("cyan", "magenta", "blue", "green", "bright_cyan", "bright_magenta", "bright_blue", "bright_green")
_LEVEL_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(logs)


def logs(
    node: Annotated[
        str | None,
        typer.Argument(
            metavar="NODE",
            help=f"Id of the node, or `{SUPERVISOR}`. Default: all, one after the other in time.",
            autocompletion=complete_node,
        ),
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[
        int,
        typer.Option("--lines", "-n", metavar="N", min=0, max=LINES_MAX, help="How many last lines of each log."),
    ] = 50,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """Show the last lines that the nodes wrote, and go on with new ones if asked to.

    Works also when the cluster does not run. Lines of several logs are put in the order of their times.
    """
    chosen = _choose(data_dir, node, follow=follow)
    show = _Show(chosen, as_json=as_json)
    with ExitStack() as stack:
        tails = [stack.enter_context(LogTail(data_dir, node_id)) for node_id in chosen]
        show.lines(interleave([tail.last(lines) for tail in tails]))
        if not follow:
            show.lines(interleave([tail.rest() for tail in tails if lines]))
            return ExitCode.OK
        try:
            while True:
                flush_output()
                time.sleep(_POLL_S)
                show.lines(interleave([tail.more() for tail in tails]))
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED


class _Show:
    """Prints lines: with the node before each if there are several logs, in colours on a terminal, or as JSON."""

    def __init__(self, chosen: list[int], *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = make_console()
        width = max(len(_name(node_id)) for node_id in chosen if node_id or len(chosen) == 1)
        self._prefixes = {
            node_id: Text(f"{_name(node_id):<{width}} | ", _NODE_STYLES[node_id % len(_NODE_STYLES)])
            for node_id in (chosen if len(chosen) > 1 else ())
        }

    def lines(self, lines: Iterator[LogLine]) -> None:
        """Print them."""
        for line in lines:
            if self._as_json:
                print_json(_document(line))
                continue
            text = Text(visible(line.text), _LEVEL_STYLES.get(line.level, ""))
            prefix = self._prefixes.get(line.node_id)
            self._console.print(text if prefix is None else Text.assemble(prefix, text))


def _choose(data_dir: Path, wanted: str | None, *, follow: bool) -> list[int]:
    """The logs to show, 0 for the supervisor's.

    Raises ConfigError for an unknown node, or if there is nothing to show and nothing to wait for.
    """
    members = [member.node_id for member in load_existing(data_dir).members]
    written = nodes_with_logs(data_dir)
    known = sorted({*members, *written})
    chosen = known if wanted is None else [_number(wanted)]
    if chosen[0] not in known:
        names = ", ".join(map(_name, known))
        raise ConfigError(f"there is no log of {wanted!r} in {data_dir}; choose from {names}, or name none to see all")
    if not follow and not set(chosen) & set(written):
        raise ConfigError(f"nothing has been logged in {data_dir} yet; --follow waits until something is")
    return chosen


def _number(wanted: str) -> int:
    """The node id that a word means, 0 for the supervisor, -1 for neither."""
    if wanted == SUPERVISOR:
        return 0
    number = wanted.removeprefix("node-")
    return int(number) or -1 if number.isascii() and number.isdecimal() and len(number) < 10 else -1


def _name(node_id: int) -> str:
    return str(node_id) if node_id else SUPERVISOR


def _document(line: LogLine) -> dict[str, object]:
    return {
        "node": line.node_id or None,
        "log": f"node-{line.node_id}" if line.node_id else SUPERVISOR,
        "time": line.moment.replace(" ", "T").replace(",", ".") or None,
        "level": line.level or None,
        "text": line.text,
    }
