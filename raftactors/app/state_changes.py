"""What differs between two states, as places in them with the value before and after."""

from __future__ import annotations

from typing import Any, NamedTuple


class _Missing:
    """Stands where there is no value."""

    def __repr__(self) -> str:
        return "(none)"


MISSING = _Missing()

CHANGES_MAX = 1_000
"""How many changes one comparison lists; the last one then says that there are more, at the place ""."""


class Change(NamedTuple):
    """One place of the state: its path, and what was and is there (MISSING: nothing)."""

    path: str
    before: Any
    after: Any


def changes_between(before: Any, after: Any) -> tuple[Change, ...]:
    """The differences between two values of None, bool, int, float, str, bytes, list and dict.

    Dicts are compared key by key. Lists are compared between what they begin and end with in common: position by
    position if that leaves equally many elements, else as elements that went and elements that came.
    """
    found: list[Change] = []
    _compare("", before, after, found)
    if len(found) > CHANGES_MAX:
        found[CHANGES_MAX:] = [Change("", MISSING, f"... and {len(found) - CHANGES_MAX} more")]
    return tuple(found)


def _compare(path: str, before: Any, after: Any, found: list[Change]) -> None:
    if type(before) is type(after):
        if type(before) is dict:
            _compare_dicts(path, before, after, found)
            return
        if type(before) is list:
            _compare_lists(path, before, after, found)
            return
        # NaN equals itself here: nothing changed.
        if before == after or (before != before and after != after):  # noqa: PLR0124
            return
    found.append(Change(path, before, after))


def _compare_dicts(path: str, before: dict[Any, Any], after: dict[Any, Any], found: list[Change]) -> None:
    for key, value in before.items():
        place = f"{path}.{key}" if path else str(key)
        if key not in after:
            found.append(Change(place, value, MISSING))
        elif value is not after[key]:
            _compare(place, value, after[key], found)
    for key, value in after.items():
        if key not in before:
            found.append(Change(f"{path}.{key}" if path else str(key), MISSING, value))


def _compare_lists(path: str, before: list[Any], after: list[Any], found: list[Change]) -> None:
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and before[start] == after[start]:
        start += 1
    end = 0
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if len(old) == len(new):
        for offset, (was, now) in enumerate(zip(old, new, strict=True), start):
            _compare(f"{path}[{offset}]", was, now, found)
        return
    found += [Change(f"{path}[{offset}]", was, MISSING) for offset, was in enumerate(old, start)]
    found += [Change(f"{path}[{offset}]", MISSING, now) for offset, now in enumerate(new, start)]
