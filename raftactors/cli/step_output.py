"""How `raftactors replay` shows one entry: lines with rich's marks, or a document for JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape

from raftactors.app.state_changes import MISSING, Change
from raftactors.app.time_travel import CommandRun, Step
from raftactors.codec.replies import ResultStatus

VALUE_LENGTH_MAX = 120
"""Characters of a value in a line; --json has all of it."""

CHANGES_SHOWN_MAX = 20
"""Changes of a command in lines; --json has more."""


def header_line(step: Step, *, committed: bool) -> str:
    """Index, term, time and what the entry is."""
    words = [f"[bold]{step.index}[/] term {step.term}"]
    if step.timestamp_ms:
        moment = datetime.fromtimestamp(step.timestamp_ms / 1000, UTC)
        words.append(f"{moment:%Y-%m-%dT%H:%M:%S}.{step.timestamp_ms % 1000:03d}Z")
    if step.kind != "commands":
        words.append(f"({step.kind})")
    words += [f"({escape(note)})" for note in step.notes]
    if not committed:
        words.append("[yellow](not known to be committed)[/]")
    return " ".join(words)


def command_lines(command: CommandRun) -> list[str]:
    """One command: who, what, the result, and the state before and after where it changed."""
    who = f"session {command.session} #{command.sequence}" if command.session else "no session"
    call = f"{command.method}({_call(command.args, command.kwargs)})"
    lines = [f"  [dim]{who}[/]  {escape(call)} -> {_outcome(command)}"]
    if not command.executed:
        lines[0] += " [dim](not executed now)[/]"
    lines += [_change_line(change) for change in command.changes[:CHANGES_SHOWN_MAX]]
    hidden = len(command.changes) - CHANGES_SHOWN_MAX
    if hidden > 0:
        lines.append(f"    ... and {hidden} more changes")
    return lines


def step_document(step: Step, *, committed: bool) -> dict[str, Any]:
    """The entry for JSON; a value that is not there before or after has no key."""
    return {
        "index": step.index,
        "term": step.term,
        "kind": step.kind,
        "committed": committed,
        "timestamp_ms": step.timestamp_ms,
        "notes": list(step.notes),
        "commands": [
            {
                "session": command.session,
                "sequence": command.sequence,
                "method": command.method,
                "args": json_value(command.args),
                "kwargs": json_value(command.kwargs),
                "executed": command.executed,
                "status": command.status.name,
                "result": json_value(command.result),
                "changes": [_change_document(change) for change in command.changes],
            }
            for command in step.commands
        ],
    }


def json_value(value: Any) -> Any:
    """A value of the application as JSON has it: bytes as {"base64": TEXT}, keys of maps as text."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): json_value(item) for key, item in value.items()}
    return value


def _change_document(change: Change) -> dict[str, Any]:
    document: dict[str, Any] = {"path": change.path}
    for name, value in (("before", change.before), ("after", change.after)):
        if value is not MISSING:
            document[name] = json_value(value)
    return document


def _change_line(change: Change) -> str:
    place = escape(change.path) or "state"
    if change.before is MISSING:
        return f"    [green]+ {place}: {_short(change.after)}[/]"
    if change.after is MISSING:
        return f"    [red]- {place}: {_short(change.before)}[/]"
    return f"    {place}: [red]{_short(change.before)}[/] -> [green]{_short(change.after)}[/]"


def _outcome(command: CommandRun) -> str:
    if command.status is ResultStatus.OK:
        return _short(command.result)
    if command.status is ResultStatus.APPLICATION_ERROR:
        kind, text = command.result
        return f"[red]{escape(kind)}: {escape(text)}[/]"
    text = f": {command.result}" if command.result else ""
    return f"[yellow]{command.status.name}{escape(text)}[/]"


def _call(args: Iterable[Any], kwargs: dict[str, Any]) -> str:
    return _cut(", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]))


def _short(value: Any) -> str:
    return escape(_cut(repr(value)))


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 4]} ..."
