"""From a configuration to TOML with a comment for each key."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raftactors.config import Member
from raftactors.config_file.keys import ENVIRONMENT_PREFIX, KEYS, MEMBERS, SECTIONS, Key
from raftactors.config_file.reading import DEFAULT, Effective
from raftactors.errors import ConfigError

_HEAD = f"""\
# Configuration of one raftactors node: `raftactors node run FILE` reads it (docs/operations.md).
# A key with "#" before it has the default that is shown. Every key can be set by an environment variable, which is
# {ENVIRONMENT_PREFIX} and its name in capitals, and by `--set KEY=VALUE`, which counts most.
"""

_ABOUT_MEMBERS = """\
The members of the cluster, spelled alike in every member's file: where other nodes reach them, where clients do, and
# where snapshots are sent."""

Line = Callable[[Key], Iterable[str]]


def render_new(given: Mapping[str, Any], members: Sequence[Member]) -> str:
    """A new file: what is given, and every other key as a comment with its default.

    A key that has no default must be given. Raises ConfigError for text that no file can hold.
    """

    def lines(key: Key) -> Iterable[str]:
        yield f"# {key.comment}"
        if key.name in given:
            yield f"{key.name} = {_toml(given[key.name])}"
        else:
            yield f"# {key.name} = {_toml(key.default)}"
        yield ""

    return _render(_HEAD, lines, members, blank=True)


def render_effective(effective: Effective) -> str:
    """What a node would run with, and after each value where it comes from; `load` reads it again."""
    config, sources = effective

    def lines(key: Key) -> Iterable[str]:
        value = getattr(config if not key.section else getattr(config, key.section), key.name)
        yield f"{key.name} = {_toml(value)}  # {_one_line(sources.get(key.name, DEFAULT))}"

    return _render("", lines, config.members, blank=False, source=_one_line(sources.get(MEMBERS, DEFAULT)))


def _render(head: str, lines: Line, members: Sequence[Member], *, blank: bool, source: str = "") -> str:
    out = [head] if head else []
    for section in SECTIONS:
        if section:
            out += ([] if blank else [""]) + [f"[{section}]"] + ([""] if blank else [])
        for key in KEYS.values():
            if key.section == section:
                out += lines(key)
        if not section:
            out += ([] if blank else [""]) + list(_member_lines(members, source))
    text = "\n".join(out).rstrip("\n") + "\n"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError("a path or name is not UTF-8 and cannot stand in a configuration; rename it") from error
    return text


def _member_lines(members: Sequence[Member], source: str) -> Iterable[str]:
    yield f"# {source or _ABOUT_MEMBERS}"
    for member in members:
        yield f"[[{MEMBERS}]]"
        for name, value in dataclasses.asdict(member).items():
            yield f"{name} = {_toml(value)}"
        yield ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings are TOML's, but for one character.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _one_line(text: str) -> str:
    """A comment cannot hold control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)
