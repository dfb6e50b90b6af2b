"""From a configuration file, the environment and flags to a checked `NodeConfig`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from raftactors.config import Limits, Member, NodeConfig, RaftTiming, split_address
from raftactors.config_file.keys import (
    ENVIRONMENT_PREFIX,
    KEYS,
    MEMBER_KEYS,
    MEMBERS,
    SECTIONS,
    Key,
    suggestion,
    variable_of,
)
from raftactors.config_file.members import check_members, parse_members
from raftactors.config_file.places import line_of
from raftactors.errors import ConfigError

BYTES_MAX = 1024 * 1024
DEFAULT = "default"


class Effective(NamedTuple):
    """A configuration, and by key where its value comes from; `default` for keys that nobody set."""

    config: NodeConfig
    sources: dict[str, str]


class _Value(NamedTuple):
    value: Any
    source: str
    folder: Path
    """Where a relative path in the value begins."""


def load(
    path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Iterable[tuple[str, str, str]] = (),
    listen_host: str = "",
) -> Effective:
    """Read the file, put environment variables on top, and flags on top of those.

    A flag is its key, its text and how it was written. `listen_host` replaces the host of the three addresses at which
    the node listens. Raises ConfigError: the text names the place, the key, and what would be right.
    """
    values = _read_file(path)
    for variable, text in (environment or {}).items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            if name != MEMBERS and name not in KEYS:
                nearest = suggestion(variable, [variable_of(known) for known in (*KEYS, MEMBERS)])
                raise ConfigError(f"there is no environment variable {variable}; {nearest}")
            values[name] = _read_text(name, text, variable)
    for name, text, written in flags:
        if name != MEMBERS and name not in KEYS:
            raise ConfigError(f"{written}: there is no key {name!r}; {suggestion(name, (*KEYS, MEMBERS))}")
        values[name] = _read_text(name, text, written)
    if listen_host:
        _listen_at(listen_host, values)
    return Effective(_build(values, path), {name: value.source for name, value in values.items()})


def _read_file(path: Path) -> dict[str, _Value]:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; `raftactors node init` writes one") from error
    if len(content) > BYTES_MAX:
        raise ConfigError(f"{path} has more than {BYTES_MAX} bytes; it is no configuration of a node")
    try:
        text = content.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    return _take_table(document, "", text, path)


def _take_table(table: Mapping[str, Any], section: str, text: str, path: Path) -> dict[str, _Value]:
    """The values of one table and, from the first one, of the tables inside it."""
    values: dict[str, _Value] = {}
    for name, value in table.items():
        place = _place(path, line_of(text, name, section))
        if section == "" and name == MEMBERS:
            values[MEMBERS] = _Value(_take_members(value, text, path), place, path.parent)
        elif section == "" and name in SECTIONS:
            if not isinstance(value, dict):
                raise ConfigError(f"{place}: {name} is {value!r}; it must be a table, as in [{name}]")
            values |= _take_table(value, name, text, path)
        elif name not in KEYS or KEYS[name].section != section:
            raise ConfigError(f"{place}: {_refusal(name, section)}")
        else:
            values[name] = _Value(_checked(KEYS[name], value, place), place, path.parent)
    return values


def _refusal(name: str, section: str) -> str:
    if name in KEYS:
        where = f"under [{KEYS[name].section}]" if KEYS[name].section else "before the first section"
        return f"{name} does not belong here; write it {where}"
    inside = f"[{section}]" if section else "a configuration"
    here = [known for known in KEYS if KEYS[known].section == section] if section else [*KEYS, MEMBERS, *SECTIONS]
    near = suggestion(name, filter(None, here))
    return f"there is no key {name!r} in {inside}; {near}"


def _take_members(value: object, text: str, path: Path) -> tuple[Member, ...]:
    place = _place(path, line_of(text, MEMBERS))
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{place}: members must be tables, each as in [[members]]")
    members = []
    for number, table in enumerate(value, 1):
        for key, part in table.items():
            where = _place(path, line_of(text, key, MEMBERS, number))
            if key not in MEMBER_KEYS:
                raise ConfigError(f"{where}: there is no key {key!r} of a member; {suggestion(key, MEMBER_KEYS)}")
            kind = int if key == "node_id" else str
            if type(part) is not kind:
                wanted = "a whole number from 1 on" if kind is int else "HOST:PORT in quotes"
                raise ConfigError(f"{where}: {key} is {part!r}; it must be {wanted}")
        missing = [key for key in MEMBER_KEYS if key not in table and key != "snapshot_address"]
        if missing:
            raise ConfigError(f"{place}: member number {number} has no {missing[0]}; add it")
        members.append(Member(**table))
    return tuple(members)


def _checked(key: Key, value: Any, place: str) -> Any:
    """A value of the right type; numbers are left to the range checks of the configuration itself."""
    if key.kind is bool and type(value) is not bool:
        raise ConfigError(f"{place}: {key.name} is {value!r}; it must be true or false")
    if key.kind in (str, Path) and type(value) is not str:
        raise ConfigError(f"{place}: {key.name} is {value!r}; it must be text in quotes")
    if key.kind is Path and not value:
        raise ConfigError(f"{place}: {key.name} is empty; name a folder")
    if key.kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(type(part) is str for part in value):
            raise ConfigError(f'{place}: {key.name} is {value!r}; it must be a list of texts, as in ["."]')
        return tuple(value)
    return value


def _read_text(name: str, text: str, source: str) -> _Value:
    """A value from the environment or a flag, which are all text."""
    value: Any = text
    if name == MEMBERS:
        try:
            value = parse_members(text)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    elif KEYS[name].kind is bool:
        value = {"true": True, "false": False}.get(text.lower(), text)
    elif KEYS[name].kind is int:
        digits = text.removeprefix("-").replace("_", "")
        value = int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else text
    elif KEYS[name].kind == tuple[str, ...]:
        value = [part for part in text.split(":") if part]
    if name != MEMBERS:
        value = _checked(KEYS[name], value, source)
    return _Value(value, source, Path.cwd())


def _listen_at(host: str, values: dict[str, _Value]) -> None:
    me = next((m for m in _get(values, MEMBERS, ()) if m.node_id == _get(values, "node_id", 0)), None)
    if me is None:
        return  # The check of the whole says what is missing.
    for name, address in (
        ("listen_peer_address", me.peer_address),
        ("listen_client_address", me.client_address),
        ("listen_snapshot_address", me.snapshot_address),
    ):
        if address:
            _, port = split_address(name, address)
            values[name] = _Value(f"{host}:{port}", f"--listen {host}", Path.cwd())


def _get(values: Mapping[str, _Value], name: str, default: Any) -> Any:
    return values[name].value if name in values else default


def _build(values: Mapping[str, _Value], path: Path) -> NodeConfig:
    required = [key.name for key in KEYS.values() if key.default is None]
    missing = [name for name in (*required, MEMBERS) if name not in values]
    if missing:
        raise ConfigError(f"{path} has no {missing[0]}; add it, or let `raftactors node init` write the file")
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        parts[KEYS[name].section if name in KEYS else ""][name] = _resolved(name, value)
    try:
        check_members(_get(values, MEMBERS, ()))
        timing, limits = RaftTiming(**parts["timing"]), Limits(**parts["limits"])
        return NodeConfig(**parts[""], timing=timing, limits=limits)
    except ConfigError as error:
        raise ConfigError(f"{_blame(str(error), values, path)}: {error}") from error


def _resolved(name: str, value: _Value) -> Any:
    """The value with its relative paths made absolute: `~` is left to the shell."""
    if name == "data_dir":
        return value.folder.absolute() / value.value
    if name == "witness_path":
        return str(value.folder.absolute() / value.value) if value.value else ""
    if name == "import_paths":
        return tuple(str((value.folder.absolute() / part).resolve()) for part in value.value)
    if name == "application":
        where, colon, kind = value.value.rpartition(":")
        return f"{value.folder.absolute() / where}:{kind}" if colon and where.endswith(".py") else value.value
    return value.value


def _blame(text: str, values: Mapping[str, _Value], path: Path) -> str:
    """Where the value stands that an error is about: its text begins with the name of the field."""
    first = text.split(maxsplit=1)[0].rstrip(":;,")
    name = MEMBERS if first in {"member", *MEMBER_KEYS} - {"node_id"} else first
    return values[name].source if name in values else str(path)


def _place(path: Path, line: int) -> str:
    return f"{path}, line {line}" if line else str(path)
