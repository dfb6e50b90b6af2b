"""`raftactors status`."""

from __future__ import annotations

from typing import Any, cast

import typer
from rich.text import Text

from raftactors.cli.options import DEFAULT_DATA_DIR, AsJson, DataDir
from raftactors.cli.output import print_json, status_lines, status_title
from raftactors.cli.target import Address, Target, find_target
from raftactors.cli.terminal import make_console, output_width
from raftactors.cluster.reaching import operate

_TIMEOUT_MS = 2_000


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("status")(status)


def status(
    context: typer.Context,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    addresses: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show every node: process, role, term, indexes, CPU and memory."""
    target = find_target(context, data_dir, addresses)
    document = _ask_nodes(target) if target.manifest is None else cast("dict[str, Any]", operate(data_dir, "status"))
    if as_json:
        print_json(document)
        return
    console = make_console()
    for line in [Text(status_title(document)), *status_lines(document, output_width())]:
        console.print(line)


def _ask_nodes(target: Target) -> dict[str, Any]:
    """What a supervisor would say, as far as the nodes themselves can: they tell nothing of their processes."""
    with target.client(_TIMEOUT_MS) as client:
        documents = client.status(timeout_ms=_TIMEOUT_MS)
        return {
            "cluster_id": client.cluster_id,
            "application": client.application,
            "data_dir": "",
            "addresses": list(target.addresses),
            "leader_id": client.leader_id,
            "nodes": [
                _describe(node_id, address, documents.get(node_id, {"error": "it did not answer"}))
                for node_id, address in sorted(client.node_addresses.items())
            ],
        }


def _describe(node_id: int, address: str, document: dict[str, Any]) -> dict[str, Any]:
    reason = str(document.get("error", ""))
    return {
        "node_id": node_id,
        "state": "silent" if reason else "running",
        "reason": reason,
        "restarts": None,
        "pid": None,
        "cpu_percent": None,
        "rss_bytes": None,
        "client_address": address,
        "raft": None if reason else document,
    }
