"""Finds every key path of a trace's outputs, and plants one change in each."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.conformance.trace_schema import Json

Step = str | int
_NOT_COMPARED = ("logs",)
_ZERO = "=0"


class Site(NamedTuple):
    """One value of one output: the line it stands on and the way to it."""

    line: int
    steps: tuple[Step, ...]


def general_path(path: str) -> str:
    """A path without list positions and node ids: `state.progress.*.match`, `ready.messages[].entries[].data`."""
    return re.sub(r"(progress|votes)\.\d+", r"\1.*", re.sub(r"\[\d+\]", "[]", path))


def path_of(steps: tuple[Step, ...]) -> str:
    """The path in the notation of `Difference`."""
    path = ""
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _walk(value: Any, general: str, steps: tuple[Step, ...], found: dict[str, Site], line: int) -> None:
    """Note every value below `value` that holds something else than zero, unless its path is known already."""
    by_node = general.endswith(("progress", "votes"))
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if key in _NOT_COMPARED:
            continue
        path = f"{general}[]" if isinstance(key, int) else f"{general}.{'*' if by_node else key}" if general else key
        # A zero is taken where nothing else is ever seen; the path with a mark keeps both apart until the end.
        mark = path if item or item == "" else path + _ZERO
        if mark not in found:
            found[mark] = Site(line, (*steps, key))
        if isinstance(item, dict | list):
            _walk(item, path, (*steps, key), found, line)


def sites(lines: list[Json]) -> dict[str, Site]:
    """The first place of every distinct key path; one that holds something else than zero, if there is any."""
    found: dict[str, Site] = {}
    for number, line in enumerate(lines[1:]):
        _walk(line["out"], "", (), found, number)
    zeros = {path.removesuffix(_ZERO): site for path, site in found.items() if path.endswith(_ZERO)}
    return zeros | {path: site for path, site in found.items() if not path.endswith(_ZERO)}


def cut(lines: list[Json], number: int) -> list[Json]:
    """The trace up to and including one operation, which is a copy, with a header that fits."""
    body = [*lines[1 : number + 1], copy.deepcopy(lines[number + 1])]
    created = {line["op"]["id"] for line in body if line["op"]["op"] == "new" and line["out"]["err"] is None}
    return [lines[0] | {"ops": len(body), "nodes": len(created)}, *body]


def _parent(lines: list[Json], site: Site) -> tuple[Any, Step]:
    container = lines[site.line + 1]["out"]
    for step in site.steps[:-1]:
        container = container[step]
    return container, site.steps[-1]


def _altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value, value[-1]] if value else ["planted"]
    if isinstance(value, dict):
        return value | {"planted": 0}
    return "planted"


def alter(lines: list[Json], site: Site) -> bool:
    """Change a value; a list gets one item more, an object an unknown key that holds zero."""
    container, key = _parent(lines, site)
    container[key] = _altered(container[key])
    return True


def retype(lines: list[Json], site: Site) -> bool:
    """Write a number as a boolean or text, a text as a number, where both would pass for equal in Python."""
    container, key = _parent(lines, site)
    value = container[key]
    if isinstance(value, bool):
        container[key] = int(value)
    elif isinstance(value, int):
        container[key] = float(value)
    else:
        return False
    return True


def remove(lines: list[Json], site: Site) -> bool:
    """Leave a value out, unless absence means the same."""
    container, key = _parent(lines, site)
    value = container[key]
    means_absence = not value and key not in ("data", "hex") and not _is_required(site)
    if means_absence or (isinstance(container, list) and key != len(container) - 1):
        return False
    del container[key]
    return True


def _is_required(site: Site) -> bool:
    """Whether the key has to be there even when it holds zero (TRACES: states and hard states)."""
    path = general_path(path_of(site.steps))
    plain_state = path.startswith("state.") and not path.startswith("state.conf.")
    return path in ("err", "ready.must_sync", "state.conf.voters") or plain_state or "ready.hard_state." in path


PLANTS: dict[str, Callable[[list[Json], Site], bool]] = {"alter": alter, "retype": retype, "remove": remove}
