"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raftactors.cluster.manifest import load_manifest
from raftactors.cluster.working_folder import absolute
from raftactors.errors import RaftActorsError

DEFAULT_DATA_DIR = Path(".raftactors")


def _check_data_dir(data_dir: Path) -> Path:
    """Say so where a relative folder leads nowhere, instead of that no cluster is in it."""
    absolute(data_dir)
    return data_dir


DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="RAFTACTORS_DATA_DIR",
        help="The cluster's data folder.",
        callback=_check_data_dir,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, errors included.")]
TIMEOUT_MS_MAX = 86_400_000
TimeoutMs = Annotated[
    int,
    typer.Option(
        "--timeout-ms", metavar="MS", min=1, max=TIMEOUT_MS_MAX, help="How long to wait for the cluster's answer."
    ),
]


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """The node ids of the cluster in the data folder, for the shell's completion."""
    try:
        manifest = load_manifest(Path(ctx.params.get("data_dir") or DEFAULT_DATA_DIR))
    except RaftActorsError:
        return []
    ids = [] if manifest is None else [str(member.node_id) for member in manifest.members]
    return [node_id for node_id in ids if node_id.startswith(incomplete)]


NodeId = Annotated[
    int,
    typer.Argument(
        metavar="NODE", help="Id of the node, as `raftactors status` shows it.", autocompletion=complete_node
    ),
]
