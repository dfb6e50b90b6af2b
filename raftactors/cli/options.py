"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA_DIR = Path(".raftactors")

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", envvar="RAFTACTORS_DATA_DIR", help="The cluster's data folder.", show_default=True),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, errors included.")]
TimeoutMs = Annotated[int, typer.Option("--timeout-ms", min=1, help="How long to wait for the cluster's answer.")]
NodeId = Annotated[int, typer.Argument(metavar="NODE", help="Id of the node, as `raftactors status` shows it.")]
