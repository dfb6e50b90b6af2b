"""`raftactors status`."""

from __future__ import annotations

from typing import Any, cast

import typer
from rich.console import Console

from raftactors.cli.options import DEFAULT_DATA_DIR, AsJson, DataDir
from raftactors.cli.output import print_json, status_lines, status_table, status_title
from raftactors.cluster.reaching import operate


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("status")(status)


def status(data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Show every node: process, role, term, indexes, CPU and memory."""
    document = cast("dict[str, Any]", operate(data_dir, "status"))
    console = Console()
    if as_json:
        print_json(document)
    elif console.is_terminal:
        console.print(status_table(document))
    else:
        print("\n".join([status_title(document), *status_lines(document)]))
