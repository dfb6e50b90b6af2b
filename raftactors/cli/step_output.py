"""How `raftactors replay` shows one entry: lines in colours, or a document for JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from raftactors.app.state_changes import MISSING, Change
from raftactors.app.time_travel import CommandRun, Step
from raftactors.cli.terminal import visible
from raftactors.codec.replies import ResultStatus

VALUE_LENGTH_MAX = 120
"""Characters of a value in a line; --json has all of it."""

CHANGES_SHOWN_MAX = 20
"""Changes of a command in lines; --json has more."""


def header_line(step: Step, *, committed: bool) -> Text:
    """Index, term, time and what the entry is."""
    words = [Text(str(step.index), "bold"), Text(f"term {step.term}")]
    if step.timestamp_ms:
        moment = datetime.fromtimestamp(step.timestamp_ms / 1000, UTC)
        words.append(Text(f"{moment:%Y-%m-%dT%H:%M:%S}.{step.timestamp_ms % 1000:03d}Z"))
    if step.kind != "commands":
        words.append(Text(f"({step.kind})"))
    words += [Text(visible(f"({note})")) for note in step.notes]
    if not committed:
        words.append(Text("(not known to be committed)", "yellow"))
    return Text(" ").join(words)


def command_lines(command: CommandRun) -> list[Text]:
    """One command: who, what, the result, and the state before and after where it changed."""
    who = f"session {command.session} #{command.sequence}" if command.session else "no session"
    call = visible(f"{command.method}({_call(command.args, command.kwargs)})")
    first = Text.assemble("  ", (who, "dim"), f"  {call} -> ", _outcome(command))
    if not command.executed:
        first.append(" ").append("(not executed now)", "dim")
    lines = [first, *(_change_line(change) for change in command.changes[:CHANGES_SHOWN_MAX])]
    hidden = len(command.changes) - CHANGES_SHOWN_MAX
    if hidden > 0:
        lines.append(Text(f"    ... and {hidden} more changes"))
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


def _change_line(change: Change) -> Text:
    place = visible(change.path) or "state"
    if change.before is MISSING:
        return Text.assemble("    ", (f"+ {place}: {_short(change.after)}", "green"))
    if change.after is MISSING:
        return Text.assemble("    ", (f"- {place}: {_short(change.before)}", "red"))
    before, after = _short(change.before), _short(change.after)
    return Text.assemble(f"    {place}: ", (before, "red"), " -> ", (after, "green"))


def _outcome(command: CommandRun) -> Text:
    if command.status is ResultStatus.OK:
        return Text(_short(command.result))
    if command.status is ResultStatus.APPLICATION_ERROR:
        kind, text = command.result
        return Text(visible(f"{kind}: {text}"), "red")
    text = f": {command.result}" if command.result else ""
    return Text(visible(f"{command.status.name}{text}"), "yellow")


def _call(args: Iterable[Any], kwargs: dict[str, Any]) -> str:
    return _cut(", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]))


def _short(value: Any) -> str:
    return visible(_cut(repr(value)))


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 4]} ..."
