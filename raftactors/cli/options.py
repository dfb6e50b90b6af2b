"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raftactors.cluster.working_folder import absolute

DEFAULT_DATA_DIR = Path(".raftactors")


def _check_data_dir(data_dir: Path) -> Path:
    """Say so where a relative folder leads nowhere, instead of that no cluster is in it."""
    absolute(data_dir)
    return data_dir


DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="RAFTACTORS_DATA_DIR",
        help="The cluster's data folder.",
        show_default=True,
        callback=_check_data_dir,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, errors included.")]
TimeoutMs = Annotated[int, typer.Option("--timeout-ms", min=1, help="How long to wait for the cluster's answer.")]
NodeId = Annotated[int, typer.Argument(metavar="NODE", help="Id of the node, as `raftactors status` shows it.")]
