"""Runs one data-driven file and reports its first difference."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raftactors.errors import InvariantViolation
from tests.conformance.arithmetic import ConfChangeCommands, QuorumCommands
from tests.conformance.datadriven_syntax import Directive, DirectiveError, parse, rewrite
from tests.conformance.interaction import Interaction

FOLDERS = ("confchange", "interaction", "quorum")

_LOG_LINE = re.compile(r"\s*(?:DEBUG|INFO|WARN|ERROR)(?:\s|$)")


class Commands(Protocol):
    """Performs directives, one after the other."""

    def run(self, directive: Directive) -> str:
        """The output of one directive."""
        ...


@dataclass(frozen=True)
class FileFailure:
    """The first directive whose output differs, or that could not be performed."""

    path: Path
    line: int
    text: str

    def describe(self) -> str:
        """Several lines for a reader."""
        return f"FAILED {self.path}:{self.line}\n{self.text}"


def commands_for(path: Path) -> Commands:
    """A fresh interpreter for a file; its folder says which notation it is in."""
    kinds: dict[str, Callable[[], Commands]] = {
        "confchange": ConfChangeCommands,
        "interaction": Interaction,
        "quorum": QuorumCommands,
    }
    kind = path.resolve().parent.name
    if kind not in kinds:
        raise DirectiveError(f"{path} lies in none of the folders {', '.join(FOLDERS)}")
    return kinds[kind]()


def without_log_text(output: str) -> str:
    """The output without the library's log text; `ok` if nothing else was printed.

    A directive that printed only log text counts as one that printed nothing, and prints `ok` then: so the
    comparison does not depend on whether, and with which words, an implementation logs.
    """
    kept = [line for line in output.split("\n") if not _LOG_LINE.match(line)]
    return "\n".join(kept) if any(kept) else "ok\n"


def run_file(path: Path, *, log_text: bool = False) -> FileFailure | None:
    """Run a file; the first difference, or None. `log_text` compares the log text as well."""
    ignores_log_text = not log_text and path.resolve().parent.name == "interaction"
    try:
        directives = parse(path.read_text(encoding="utf-8"))
        commands = commands_for(path)
    except (OSError, ValueError, DirectiveError) as error:
        return FileFailure(path, 1, str(error))
    for directive in directives:
        try:
            actual = commands.run(directive)
        except (Exception, InvariantViolation) as error:  # Any failure of the core belongs to this directive.
            return FileFailure(path, directive.line, f"{directive.text}\n  {type(error).__name__}: {error}")
        actual = _closed(actual)
        expected = directive.expected
        if ignores_log_text:
            actual, expected = without_log_text(actual), without_log_text(expected)
        if actual != expected:
            diff = difflib.unified_diff(
                expected.splitlines(), actual.splitlines(), "expected", "actual", n=10, lineterm=""
            )
            return FileFailure(path, directive.line, "\n".join([directive.text, *diff]))
    return None


def rewritten(path: Path) -> str:
    """The file with our outputs. Raises DirectiveError if a directive makes no sense."""
    text = path.read_text(encoding="utf-8")
    directives = parse(text)
    commands = commands_for(path)
    return rewrite(text, directives, [_closed(commands.run(directive)) for directive in directives])


def _closed(output: str) -> str:
    return output if not output or output.endswith("\n") else output + "\n"
