"""Replays one golden trace and reports the first departure from it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raftactors.errors import InvariantViolation
from tests.conformance.compare import ABSENT, Difference, compare_outputs
from tests.conformance.trace_schema import RECORDS, Json, SchemaError, normalise_record
from tests.conformance.world import World

FORMAT = 1
REFERENCE = "etcd-io/raft v3.6.0"
HISTORY_OPERATIONS = 5
"""How many operations of the node in question a failure shows."""


@dataclass(frozen=True)
class TraceFailure:
    """Where and how a trace failed. `number` is that of the operation, None for the header."""

    number: int | None
    op: Json
    difference: Difference
    history: list[Json] = field(default_factory=list)

    def describe(self) -> str:
        """Several lines for a reader; long values are cut."""
        lines = [f"  operation {self.number}: {_short(self.op)}" if self.number is not None else "  header"]
        lines += [
            f"  at        {self.difference.path}",
            f"  expected  {_short(self.difference.expected)}",
            f"  actual    {_short(self.difference.actual)}",
        ]
        if self.history:
            lines.append("  operations of this node before it:")
            lines += [f"    {line['n']}: {_short(line['op'])}" for line in self.history]
        return "\n".join(lines)


def _short(value: Any, limit: int = 600) -> str:
    shown = value if isinstance(value, str) else repr(value) if value is ABSENT else json.dumps(value, default=repr)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def load_trace(path: Path) -> list[Json]:
    """The lines of a trace file, header first. Raises OSError, ValueError."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def trace_paths(arguments: list[Path]) -> Iterator[Path]:
    """The trace files among files and folders, in order of name. Raises FileNotFoundError for a path without any."""
    for path in arguments:
        found = sorted(path.glob("trace-*.jsonl.gz")) if path.is_dir() else [path]
        if not found or not path.exists():
            raise FileNotFoundError(f"{path}: no trace-*.jsonl.gz here; name a trace file or a folder of them")
        yield from found


def replay(lines: list[Json]) -> TraceFailure | None:
    """Perform every operation of a trace; the first departure, or None if there is none."""
    difference = _check_header(lines)
    if difference is not None:
        return TraceFailure(None, {}, difference)
    world = World()
    for number, line in enumerate(lines[1:]):
        difference = _replay_line(world, line, number)
        if difference is not None:
            op = line.get("op")
            history = _history(lines[1 : number + 1], op)
            return TraceFailure(number, op if isinstance(op, dict) else {}, difference, history)
    difference = _check_summary(lines[0], lines[1:])
    return None if difference is None else TraceFailure(None, {}, difference)


def _replay_line(world: World, line: Json, number: int) -> Difference | None:
    if sorted(line) != ["n", "op", "out"] or type(line["n"]) is not int or line["n"] != number:
        return Difference("n", {"n": number, "op": "...", "out": "..."}, line)
    try:
        actual = world.perform(line["op"])
    except SchemaError as error:
        return Difference(error.path, error.text, "(not performed)")
    except (Exception, InvariantViolation) as error:  # Whatever the core raises is a departure, never a crash of ours.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" ({Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno})"
        return Difference("exception", line["out"], f"{type(error).__name__}: {error}{where}")
    return compare_outputs(line["out"], actual)


def _check_header(lines: list[Json]) -> Difference | None:
    """What has to be right before anything is replayed."""
    header = lines[0] if lines else {}
    try:
        normalise_record(RECORDS["header"], header, "header")
    except SchemaError as error:
        return Difference(error.path, error.text, "(not replayed)")
    return _compare_header(header, {"format": FORMAT, "reference": REFERENCE, "ops": len(lines) - 1})


def _check_summary(header: Json, lines: list[Json]) -> Difference | None:
    """What the header says about operations that are known to be right.

    `scenario` and `seed` only name the trace. `async` is a hint to look at each node's own configuration, which alone
    decides: traces with either answer and nodes of the other kind are legal. `puppet` is checked where it says yes.
    """
    created = {line["op"]["id"] for line in lines if line["op"]["op"] == "new" and line["out"]["err"] is None}
    is_puppet = created == {1} and all(line["op"]["op"] != "deliver" for line in lines)
    return _compare_header(header, {"nodes": len(created), "puppet": is_puppet and header["puppet"]})


def _compare_header(header: Json, facts: Json) -> Difference | None:
    for key, fact in facts.items():
        if header[key] != fact:
            return Difference(f"header.{key}", header[key], fact)
    return None


def _history(before: list[Json], op: Any) -> list[Json]:
    node_id = op.get("id") if isinstance(op, dict) else None
    return [line for line in before if line["op"].get("id") == node_id][-HISTORY_OPERATIONS:]
