"""The key-value battery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

from raftactors.app.application import command, query
from raftactors.app.freezing import FreezableApplication
from raftactors.app.key_index import KeyIndex
from raftactors.app.overlay import Overlay, ascending
from raftactors.errors import ApplicationStateError

KEY_LENGTH_MAX = 4_096
"""Characters in a key."""

SCAN_PAIRS_MAX = 1_000
"""Pairs that one scan returns at most."""

SCAN_BYTES_MAX = 64 * 1024
"""A scan ends after the pair with which its keys and values reach this many bytes (str: characters)."""


PIECE_PAIRS_MAX = 256
PIECE_BYTES = 64 * 1024
"""A piece of a snapshot ends with the pair that reaches one of these (str: characters)."""


class KeyValue(FreezableApplication):
    """A store of str keys and bytes or str values, ordered by key; a value comes back as the type it was put.

    Every change gives the store its next *version*: 1, 2, 3 and so on, unique over all keys. A key has the version of
    its last change, so `put_if_version` sees every change in between, also one that came back to the same value.
    A key of no character or more than 4,096 is refused: the methods raise ValueError and nothing changes.
    """

    def __init__(self) -> None:
        self._version = 0
        self._pairs: MutableMapping[str, tuple[bytes | str, int]] = {}
        self._index = KeyIndex()

    @command
    def put(self, key: str, value: bytes | str) -> int:
        """Set a key, whether it exists or not; returns its new version."""
        if key not in self._pairs:
            _check_key(key)
            self._index.add(key)
        self._version += 1
        self._pairs[key] = (value, self._version)
        return self._version

    @command
    def delete(self, key: str) -> bool:
        """Remove a key; False when there was none."""
        if self._pairs.pop(key, None) is None:
            return False
        self._version += 1
        self._index.remove(key)
        return True

    @command
    def compare_and_swap(self, key: str, expected: bytes | str | None, value: bytes | str | None) -> bool:
        """Set a key to `value` if it now has `expected`; returns whether it did.

        None stands for "no such key": as `expected` it creates, as `value` it deletes.
        A str never equals bytes.
        """
        present = self._pairs.get(key)
        if (None if present is None else present[0]) != expected:
            return False
        if value is not None:
            self.put(key, value)
        else:
            self.delete(key)
        return True

    @command
    def put_if_version(self, key: str, value: bytes | str, version: int) -> int | None:
        """Set a key if its version is `version` (0: it does not exist); returns the new version, None if it was not."""
        present = self._pairs.get(key)
        if (0 if present is None else present[1]) != version:
            return None
        return self.put(key, value)

    @query
    def get(self, key: str) -> bytes | str | None:
        """The value of a key, None when there is none."""
        present = self._pairs.get(key)
        return None if present is None else present[0]

    @query
    def get_with_version(self, key: str) -> list[Any] | None:
        """[value, version] of a key, None when there is none."""
        present = self._pairs.get(key)
        return None if present is None else list(present)

    @query
    def scan(self, prefix: str = "", limit: int = 100, after: str | None = None) -> list[list[Any]]:
        """[key, value] of the keys that start with `prefix`, ascending by code point.

        At most `limit` (1 to 1,000) pairs, fewer when they reach 64 KiB, and an empty list when none is left: go on
        with `after` set to the last key.
        """
        if not 1 <= limit <= SCAN_PAIRS_MAX:
            raise ValueError(f"limit is {limit}; it must be 1 to {SCAN_PAIRS_MAX}")
        found: list[list[Any]] = []
        size = 0
        for key in self._index.range(prefix, after):
            value = self._pairs[key][0]
            found.append([key, value])
            size += len(key) + len(value)
            if len(found) == limit or size >= SCAN_BYTES_MAX:
                break
        return found

    @query
    def count(self, prefix: str = "") -> int:
        """How many keys start with `prefix`."""
        return self._index.count(prefix) if prefix else len(self._pairs)

    def readable_state(self) -> object:
        """The pairs as one dict, and the version."""
        return {"pairs": {key: self._pairs[key][0] for key in self._index.range("")}, "version": self._version}

    def pieces(self) -> Iterator[object]:
        """[version, keys], then lists of key, value, version, key, value, version, ... ascending by key."""
        return _pieces(self._version, self._pairs)

    def freeze(self) -> Iterator[object]:
        """Set the pairs aside; changes go on top of them."""
        assert type(self._pairs) is dict  # Frozen twice otherwise, which `freeze` excludes.
        frozen = self._pairs
        self._pairs = Overlay(frozen)
        return _pieces(self._version, frozen)

    def thaw(self) -> None:
        """Work the changes in. After a restore there is nothing to work in."""
        if isinstance(self._pairs, Overlay):
            self._pairs = self._pairs.merged()

    def restore_pieces(self, pieces: Iterable[Any]) -> None:
        """Become what `pieces` described."""
        pairs: dict[str, tuple[bytes | str, int]] = {}
        try:
            version, count = next(rest := iter(pieces))
            for flat in rest:
                for key, value, changed in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
                    pairs[key] = (value, changed)
            if type(version) is not int or count != len(pairs):
                raise ValueError(f"{len(pairs)} pairs, {count} were written")
        except (TypeError, ValueError, StopIteration) as error:
            raise ApplicationStateError(f"the snapshot is not one of KeyValue: {error}") from error
        self._version, self._pairs, self._index = version, pairs, KeyIndex(pairs)


def _pieces(version: int, pairs: MutableMapping[str, tuple[bytes | str, int]]) -> Iterator[object]:
    yield [version, len(pairs)]
    flat: list[object] = []
    size = 0
    for key in ascending(pairs):
        value, changed = pairs[key]
        flat += (key, value, changed)
        size += len(key) + len(value)
        if len(flat) >= 3 * PIECE_PAIRS_MAX or size >= PIECE_BYTES:
            yield flat
            flat, size = [], 0
    if flat:
        yield flat


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        raise ValueError(f"the key has {len(key)} characters; it must have 1 to {KEY_LENGTH_MAX}")
