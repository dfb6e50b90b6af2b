"""What it is in a value that no message can carry, where it stands, and what to put in its place.

The text may be kept by sessions, so it says the same on every replica, and no code of a value's own class is run.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

from raftactors.codec.shape import DEPTH_MAX, VALUES_MAX

_Path: TypeAlias = "tuple[_Path, object] | None"
"""The way to a value from its outermost container: the way to what holds it, and its index or key there."""

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_SHOWN_MAX = 40
_NAME_MAX = 100
_STEPS_SHOWN = 4
_BASIC = "None, bool, int, float, str, bytes, list or dict"
_LIST_IT = "use list(...)"
_EXTENSIONS = frozenset({"ExtType", "Timestamp"})
_INSTEAD = {
    "ExtType": f"use {_BASIC}",
    "Timestamp": "use a number of milliseconds",
    "set": "use a sorted list",
    "frozenset": "use a sorted list",
    "Decimal": "use str(...) or a whole number of the smallest unit",
    "Fraction": "use numerator and denominator",
    "date": "use its isoformat()",
    "time": "use its isoformat()",
    "timedelta": "use its total_seconds()",
    "UUID": "use str(...)",
    "PurePath": "use str(...)",
    "Enum": "use its value",
    "complex": "use its real and imag",
    "integer": "use int(...)",  # of numpy, like the next two
    "floating": "use float(...)",
    "ndarray": "use its tolist()",
    **dict.fromkeys(("deque", "range", "generator", "map", "filter", "zip", "array"), _LIST_IT),
    **dict.fromkeys(("dict_keys", "dict_values", "dict_items"), _LIST_IT),
}
_CARRIED = (bytes, bytearray, memoryview, float, type(None))
_KEYS = (type(None), int, float, str, bytes, memoryview)
_name_of_class = type.__dict__["__name__"].__get__


def type_name(value: object) -> str:
    """The name of a value's class, 100 characters at most, whatever its metaclass says."""
    return str.__getitem__(_name_of_class(type(value)), slice(_NAME_MAX))


def what_is_uncarriable(value: object) -> str:
    """Name the first part of `value` that no message can carry, its place and the way out."""
    waiting: list[tuple[object, _Path, int]] = [(value, None, 0)]
    values = 0
    while waiting:
        part, path, depth = waiting.pop()
        values += 1
        trouble = _trouble_with(part, depth)
        if trouble is not None:
            return f"{trouble[0]}{_place(path)}; {trouble[1]}"
        size, inner = _inside(part)
        if values + len(waiting) + size > VALUES_MAX:
            kind = "dict" if issubclass(type(part), dict) else "list"
            return (
                f"a {kind} of {len(inner)}{_place(path)}, and one message holds at most {VALUES_MAX} values in all; "
                "use several messages, or bytes"
            )
        waiting += [(element, (path, step), depth + 1) for step, element in reversed(inner)]
        values += size - len(inner)
    return f"its parts do not tell what they hold; use {_BASIC}"


def _inside(part: Any) -> tuple[int, list[tuple[object, object]]]:
    """How many values a container adds to a message, and its elements with their places."""
    kind = type(part)
    if issubclass(kind, dict):
        return 2 * dict.__len__(part), list(dict.items(part))
    if issubclass(kind, list):
        return list.__len__(part), list(enumerate(list.__iter__(part)))
    if issubclass(kind, tuple):
        return tuple.__len__(part), list(enumerate(tuple.__iter__(part)))
    return 0, []


def _trouble_with(part: Any, depth: int) -> tuple[str, str] | None:
    """What is wrong with this part and what to do about it, without a look at what it holds."""
    kind = type(part)
    names = [_name_of_class(base) for base in type.__dict__["__mro__"].__get__(kind)]
    if not _EXTENSIONS.intersection(names):
        if issubclass(kind, (list, tuple, dict)):
            return _trouble_with_container(part, depth)
        if issubclass(kind, (int, str)):
            return _trouble_with_int(part) if issubclass(kind, int) else _trouble_with_str(part)
        if issubclass(kind, _CARRIED):
            return None
    instead = next((_INSTEAD[name] for name in names if name in _INSTEAD), f"use {_BASIC}")
    if dataclasses.is_dataclass(kind):
        instead = "use dataclasses.asdict(...)"
    return f"a value of type {type_name(part)}", instead


def _trouble_with_container(part: Any, depth: int) -> tuple[str, str] | None:
    if depth >= DEPTH_MAX:
        return f"lists and dicts nested more than {DEPTH_MAX} deep", "make it flatter, or use bytes"
    return _trouble_with_keys(part) if issubclass(type(part), dict) else None


def _trouble_with_int(part: int) -> tuple[str, str] | None:
    if int.__le__(_INT_MIN, part) and int.__le__(part, _INT_MAX):
        return None
    return f"an int of {int.bit_length(part)} bits, and only -2**63 to 2**64 - 1 can be sent", "use str(...)"


def _trouble_with_str(part: str) -> tuple[str, str] | None:
    try:
        str.encode(part)
    except UnicodeEncodeError:
        return f"the str {_shown(part)}, which has a lone surrogate", "encode it with errors='surrogateescape'"
    return None


def _trouble_with_keys(part: dict[object, object]) -> tuple[str, str] | None:
    for key in dict.keys(part):
        if not issubclass(type(key), _KEYS):
            return f"a dict with a key of type {type_name(key)}", "use keys of None, bool, int, float, str or bytes"
        trouble = _trouble_with(key, 0)
        if trouble is not None:
            return f"a dict with the key: {trouble[0]}", trouble[1]
    return None


def _place(path: _Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"[{_shown(step)}]")
    if len(steps) > 2 * _STEPS_SHOWN:
        steps[_STEPS_SHOWN:-_STEPS_SHOWN] = ["..."]
    return f" at {''.join(reversed(steps))}" if steps else ""


def _shown(step: Any) -> str:
    """A key or an index as text, cut; only what is shown alike everywhere."""
    if type(step) not in {type(None), bool, int, float, str, bytes}:
        return type_name(step)
    text = repr(step[:_SHOWN_MAX] if isinstance(step, (str, bytes)) else step)
    return text if len(text) <= 2 * _SHOWN_MAX else text[: 2 * _SHOWN_MAX] + "..."
