"""`raftactors rebuild`."""

from __future__ import annotations

import shlex

import typer

from raftactors.cli.options import DEFAULT_DATA_DIR, AsJson, DataDir, NodeId
from raftactors.cli.output import print_json
from raftactors.cli.terminal import visible
from raftactors.cluster.rebuilding import rebuild_node


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(rebuild)


def rebuild(node_id: NodeId, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Make the data of one node anew from what the others hold, when its disk was damaged or lost.

    The cluster must be stopped. The old data folder is kept beside the new one.
    """
    made = rebuild_node(data_dir, node_id)
    if as_json:
        print_json(made._asdict() | {"kept": None if made.kept is None else str(made.kept)})
        return
    print(f"node {node_id}: rebuilt up to index {made.last_index} from node {made.source_node}")
    if made.kept is not None:
        print(visible(f"the old data is in {made.kept}"))
    print(visible(f"start the cluster with `raftactors up --data-dir {shlex.quote(str(data_dir))}`"))
