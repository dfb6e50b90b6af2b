"""A dict that can be frozen in no time: later changes lie on top of it until it is thawed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableMapping
from itertools import islice
from typing import TypeVar

_V = TypeVar("_V")

_RUN = 8_192
"""Keys sorted at once. Sorting holds the interpreter; a run of this size takes a few milliseconds."""


class _Gone:
    """Stands for a key of the frozen dict that has been removed since."""


_GONE = _Gone()


class Overlay(MutableMapping[str, _V]):
    """Looks like a dict: `frozen`, which nobody may change, with the changes since. `merged` ends it."""

    def __init__(self, frozen: dict[str, _V]) -> None:
        self._frozen = frozen
        self._changed: dict[str, _V | _Gone] = {}
        self._length = len(frozen)

    def __getitem__(self, key: str) -> _V:
        found = self._changed.get(key)
        if found is None:
            return self._frozen[key]
        if isinstance(found, _Gone):
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, value: _V) -> None:
        self._length += key not in self
        self._changed[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._length -= 1
        if key in self._frozen:
            self._changed[key] = _GONE
        else:
            del self._changed[key]

    def __contains__(self, key: object) -> bool:
        found = self._changed.get(key) if isinstance(key, str) else None
        return key in self._frozen if found is None else found is not _GONE

    def __iter__(self) -> Iterator[str]:
        changed = self._changed
        yield from (key for key in self._frozen if key not in changed)
        yield from (key for key, value in changed.items() if value is not _GONE)

    def __len__(self) -> int:
        return self._length

    def merged(self) -> dict[str, _V]:
        """The frozen dict with the changes worked in; takes as long as there are changes."""
        frozen = self._frozen
        for key, value in self._changed.items():
            if isinstance(value, _Gone):
                del frozen[key]
            else:
                frozen[key] = value
        return frozen


def ascending(keys: MutableMapping[str, _V]) -> Iterator[str]:
    """The keys in code point order, without holding the interpreter for long; `keys` must not change meanwhile."""
    rest = iter(keys)
    runs: list[list[str]] = []
    while run := sorted(islice(rest, _RUN)):
        runs.append(run)
    return iter(runs[0]) if len(runs) == 1 else heapq.merge(*runs)
