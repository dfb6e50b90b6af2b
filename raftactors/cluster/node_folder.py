"""The folder of one node in that of its cluster: what the node is told, and where its data is."""

from __future__ import annotations

import json
from pathlib import Path

from raftactors.cluster.private_files import replace_text
from raftactors.config import NodeConfig

CONFIG_NAME = "config.json"
WITNESS_FOLDER = "witness"


def node_folder(cluster_folder: Path, node_id: int) -> Path:
    """The folder of one node."""
    return cluster_folder / f"node-{node_id}"


def data_folder(cluster_folder: Path, node_id: int) -> Path:
    """Where the node keeps its data."""
    return node_folder(cluster_folder, node_id) / "data"


def witness_path(cluster_folder: Path, node_id: int) -> Path:
    """Where it is kept what the node has shown: outside of its folder, so that no copy of that brings it back."""
    return cluster_folder / WITNESS_FOLDER / f"node-{node_id}"


def log_file(cluster_folder: Path, node_id: int) -> Path:
    """What the node writes to standard error, and prints."""
    return node_folder(cluster_folder, node_id) / "log"


def rotated_log_file(log: Path) -> Path:
    """Where a node copies a log that is full before it empties it."""
    return log.with_suffix(log.suffix + ".1")


def write_config(folder: Path, config: NodeConfig) -> None:
    """Write what the node is told, whole or not at all: its supervisor may start it at any time."""
    replace_text(folder / CONFIG_NAME, config.to_json())


def least_incarnation(folder: Path) -> int:
    """What a node that has served must at least have come to, by its last configuration; 1 if that tells nothing."""
    try:
        return max(1, int(json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["incarnation_min"]))
    except (OSError, ValueError, TypeError, KeyError):
        return 1
