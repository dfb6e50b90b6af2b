"""Reads and rewrites data-driven test files: directives, their input, and the output they are expected to give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SEPARATOR = "----"

_ARGUMENT = re.compile(r"(?P<name>[^\s=]+)(?:=(?:\((?P<list>[^)]*)\)|(?P<value>\S*)))?")


class DirectiveError(Exception):
    """A directive cannot be understood or performed; its text becomes the directive's output."""


class Argument(NamedTuple):
    """`name`, `name=value` or `name=(value, ...)`; `values` is None for a bare name."""

    name: str
    values: tuple[str, ...] | None


@dataclass(frozen=True)
class Directive:
    """One directive of a file. `output_lines` is the half-open range of lines that holds the expected output."""

    line: int
    text: str
    command: str
    arguments: tuple[Argument, ...]
    input: str
    expected: str
    output_lines: tuple[int, int]

    def names(self) -> list[str]:
        """The bare arguments, in order."""
        return [argument.name for argument in self.arguments if argument.values is None]

    def ids(self) -> list[int]:
        """The bare arguments as node ids."""
        try:
            return [int(name) for name in self.names()]
        except ValueError:
            raise DirectiveError(f"{self.text}: a node id is a decimal number") from None

    def one_id(self) -> int:
        """The first bare argument, as a node id."""
        ids = [name for name in self.names()[:1] if name.isdecimal()]
        if not ids:
            raise DirectiveError(f"{self.text}: a node id is missing")
        return int(ids[0])

    def values(self, name: str) -> tuple[str, ...]:
        """The values of `name=...`, empty if it is not there."""
        return next((a.values for a in self.arguments if a.name == name and a.values is not None), ())

    def value(self, name: str, default: str = "") -> str:
        """The only value of `name=...`."""
        values = self.values(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        """Whether `name=true` was given."""
        return self.value(name, "false") == "true"

    def check_arguments(self, known: Sequence[str]) -> None:
        """Raise DirectiveError for a `name=...` that is not known, so that no typing error passes unseen."""
        for argument in self.arguments:
            if argument.values is not None and argument.name not in known:
                raise DirectiveError(f"{self.text}: unknown argument {argument.name}")


def parse(text: str) -> list[Directive]:
    """The directives of a file. Raises DirectiveError if one has no output part."""
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    directives: list[Directive] = []
    position = 0
    while position < len(lines):
        if not lines[position].strip() or lines[position].lstrip().startswith("#"):
            position += 1
            continue
        directive, position = _parse_directive(lines, position)
        directives.append(directive)
    return directives


def _parse_directive(lines: list[str], start: int) -> tuple[Directive, int]:
    position = start
    head = lines[position].strip()
    while head.endswith("\\"):
        position += 1
        head = head[:-1].rstrip() + " " + lines[position].strip()
    separator = position + 1
    while separator < len(lines) and lines[separator] != SEPARATOR:
        separator += 1
    if separator == len(lines):
        raise DirectiveError(f"line {start + 1}: no {SEPARATOR} follows {head!r}")
    first, last, after = _output_range(lines, separator + 1)
    command, _, rest = head.partition(" ")
    directive = Directive(
        line=start + 1,
        text=head,
        command=command,
        arguments=tuple(_parse_arguments(rest)),
        input="\n".join(lines[position + 1 : separator]).strip(),
        expected="".join(line + "\n" for line in lines[first:last]),
        output_lines=(separator + 1, after),
    )
    return directive, after


def _output_range(lines: list[str], start: int) -> tuple[int, int, int]:
    """First line of the output, the line behind its last, and the line behind what belongs to the output."""
    end = start
    if start < len(lines) and lines[start] == SEPARATOR:
        end = start + 1
        while lines[end : end + 2] != [SEPARATOR, SEPARATOR]:
            if end >= len(lines):
                raise DirectiveError(f"line {start + 1}: the output does not end with two lines {SEPARATOR}")
            end += 1
        return start + 1, end, end + 2
    while end < len(lines) and lines[end]:
        end += 1
    return start, end, end


def _parse_arguments(text: str) -> list[Argument]:
    arguments = []
    for match in _ARGUMENT.finditer(text):
        if match["list"] is not None:
            values = tuple(value.strip() for value in match["list"].split(",") if value.strip())
            arguments.append(Argument(match["name"], values))
        else:
            arguments.append(Argument(match["name"], None if match["value"] is None else (match["value"],)))
    return arguments


def rewrite(text: str, directives: list[Directive], outputs: list[str]) -> str:
    """The file with the expected outputs replaced; comments and spacing stay."""
    lines = text.split("\n")
    for directive, output in reversed(list(zip(directives, outputs, strict=True))):
        first, after = directive.output_lines
        shown = output.removesuffix("\n").split("\n") if output else []
        if "" in shown:
            shown = [SEPARATOR, *shown, SEPARATOR, SEPARATOR]
        lines[first:after] = shown
    return "\n".join(lines)
