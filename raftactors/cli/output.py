"""What the commands print: aligned lines, in colours on a terminal, plain in a pipe; JSON on demand."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from raftactors.cli.step_output import json_value
from raftactors.cli.tables import Column, Table
from raftactors.cli.terminal import visible
from raftactors.errors import ExitCode

_COLUMNS = (
    Column("node"),
    Column("state"),
    Column("pid", rank=5),
    Column("role"),
    Column("term", rank=2),
    Column("commit", rank=4),
    Column("applied", rank=3),
    Column("disk", rank=1),
    Column("cpu", rank=7),
    Column("memory", rank=6),
)
_STYLES = {"running": "green", "leader": "bold green", "paused": "yellow", "starting": "yellow", "waiting": "yellow"}
_STYLES |= {
    "killed": "red",
    "silent": "red",
    "failed": "bold red",
    "full": "bold red",
    "stalled": "bold red",
    "damaged": "bold red",
}


def print_json(document: object) -> None:
    """One line of JSON on standard output; bytes become `{"base64": TEXT}`."""
    print(json.dumps(document, default=_encode_bytes), flush=True)


def print_value(value: object, *, as_json: bool) -> None:
    """A result: text as it is, anything else as JSON; with `as_json` an object with the key `result`."""
    if as_json:
        print_json({"result": json_value(value)})
    elif isinstance(value, str):
        print(value)
    elif isinstance(value, bytes):
        print(value.decode(errors="backslashreplace"))
    else:
        print_json(json_value(value))


def print_error(text: str, *, kind: str, exit_code: int, as_json: bool) -> int:
    """One line on standard error; returns the exit code for the caller to end with."""
    line = " ".join(part.strip() for part in text.splitlines() if part.strip())
    if as_json:
        line = json.dumps({"error": {"kind": kind, "text": line, "exit_code": int(exit_code)}})
    else:
        line = f"raftactors: {visible(line)}"
    print(line, file=sys.stderr, flush=True)
    return int(exit_code or ExitCode.FAILURE)


def status_lines(status: Mapping[str, Any], width_max: int | None = None) -> list[Text]:
    """The status of a cluster as aligned lines in colours; columns that do not fit `width_max` are left out."""
    rows = [_cells(node) for node in status["nodes"]]
    table = Table(_COLUMNS, rows, width_max)
    lines = [table.header, *(table.line(cells, _STYLES) for cells in rows)]
    return lines + [Text(text) for text in [*remarks(status), *table.note]]


def status_title(status: Mapping[str, Any]) -> str:
    """Application, and the folder or the addresses that were asked, in one line."""
    place = f"in {status['data_dir']}" if status["data_dir"] else f"at {', '.join(status['addresses'])}"
    return visible(f"{status['application']} {place}")


def brief_line(status: Mapping[str, Any]) -> str:
    """The status of a cluster in one line, for logs."""
    parts = [f"leader={status['leader_id'] or 'none'}"]
    for node in status["nodes"]:
        raft = node["raft"] or {}
        role = raft.get("role", node["state"])
        parts.append(f"{node['node_id']}:{role} term={raft.get('term', '-')} applied={raft.get('applied', '-')}")
    return "  ".join(parts)


def _cells(node: Mapping[str, Any]) -> tuple[str, ...]:
    raft = node["raft"] or {}
    return (
        str(node["node_id"]),
        node["state"],
        str(node["pid"] or "-"),
        *(str(raft.get(name, "-")) for name in ("role", "term", "commit", "applied")),
        _disk(raft),
        "-" if node["cpu_percent"] is None else f"{node['cpu_percent']:.0f}%",
        "-" if node["rss_bytes"] is None else f"{node['rss_bytes'] / 2**20:.0f} MiB",
    )


def _disk(raft: Mapping[str, Any]) -> str:
    """The state of the disk; a durability that a power cut takes back is never left unsaid."""
    state = raft.get("disk", "-")
    if state == "ok" and raft["scrub"]["damage"]:
        state = "damaged"
    durability = raft.get("durability", "fsync")
    return str(state) if durability == "fsync" else f"{state}, {durability}"


def remarks(status: Mapping[str, Any]) -> list[str]:
    """Why a node does not run, and what its disk has lost, a line each."""
    found = []
    for node in status["nodes"]:
        damage = node["raft"]["scrub"]["damage"] if node["raft"] else []
        found += [visible(f"node {node['node_id']}: {text}") for text in [node["reason"], *damage] if text]
    return found


def _encode_bytes(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} has no JSON form")
