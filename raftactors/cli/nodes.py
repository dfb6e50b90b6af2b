"""`raftactors kill`, `pause`, `resume`, `restart` and `down`: what is done to nodes and to the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import typer

from raftactors.cli.options import DEFAULT_DATA_DIR, AsJson, DataDir, NodeId
from raftactors.cli.output import print_json
from raftactors.cli.terminal import visible
from raftactors.cli.values import ValuesCommand
from raftactors.cluster.reaching import operate, stop_cluster


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (kill, pause, resume, restart, down):
        app.command(cls=ValuesCommand)(command)


def kill(node_id: NodeId, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """End a node with SIGKILL; it stays dead until `restart`."""
    _operate("kill", node_id, data_dir, as_json)


def pause(node_id: NodeId, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Stop a node's process where it stands (SIGSTOP)."""
    _operate("pause", node_id, data_dir, as_json)


def resume(node_id: NodeId, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Let a paused node go on."""
    _operate("resume", node_id, data_dir, as_json)


def restart(node_id: NodeId, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Start a node again, ending it in order first if it runs; returns when it serves."""
    _operate("restart", node_id, data_dir, as_json)


def down(data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Let all nodes drain and end; returns when none runs any more. The data stays."""
    stop_cluster(data_dir)
    if as_json:
        print_json({"state": "stopped"})
    else:
        print(visible(f"stopped; the data stays in {data_dir}"))


def _operate(operation: str, node_id: int, data_dir: Path, as_json: bool) -> None:
    answer = cast("dict[str, Any]", operate(data_dir, operation, node_id))
    if as_json:
        print_json(answer)
    else:
        print(f"node {answer['node_id']} is {answer['state']}")
