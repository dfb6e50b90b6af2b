"""Sorted keys beside a dict, sorted only when somebody asks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

_SORT_FROM = 32
"""Changes from which one pass over all keys is cheaper than moving the tail of the list for each."""


class KeyIndex:
    """The keys of a store in code point order. Writes only note the change; a scan first works the changes in."""

    __slots__ = ("_added", "_keys", "_removed")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = sorted(keys)
        self._added: set[str] = set()
        self._removed: set[str] = set()

    def add(self, key: str) -> None:
        """Note a key that is not in the index."""
        self._added.add(key)

    def remove(self, key: str) -> None:
        """Note that a key of the index is gone."""
        if key in self._added:
            self._added.remove(key)
        else:
            self._removed.add(key)

    def range(self, prefix: str, after: str | None = None) -> Iterator[str]:
        """The keys that start with `prefix`, ascending, behind `after`. The store must not change meanwhile."""
        self._settle()
        keys = self._keys
        start = bisect_left(keys, prefix)
        if after is not None:
            start = max(start, bisect_right(keys, after))
        for place in range(start, len(keys)):
            if not keys[place].startswith(prefix):
                return
            yield keys[place]

    def count(self, prefix: str) -> int:
        """How many keys start with `prefix`."""
        self._settle()
        start = bisect_left(self._keys, prefix)
        # Among the keys from `start` on, those with the prefix come first.
        return bisect_left(self._keys, True, start, key=lambda key: not key.startswith(prefix)) - start

    def _settle(self) -> None:
        # Removals first: a key that was removed and added again is noted as both.
        if len(self._removed) >= _SORT_FROM:
            self._keys = [key for key in self._keys if key not in self._removed]
        else:
            for key in self._removed:
                del self._keys[bisect_left(self._keys, key)]
        self._removed.clear()
        if len(self._added) >= _SORT_FROM:
            self._keys.extend(self._added)
            self._keys.sort()
        else:
            for key in self._added:
                insort(self._keys, key)
        self._added.clear()
