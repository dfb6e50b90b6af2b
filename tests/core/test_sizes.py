"""Sizes against an encoder that really encodes."""

from __future__ import annotations

import random

import pytest

from raftactors.core.sizes import entries_size, entry_size, payload_size, payloads_size, prefix_count, varint_size
from raftactors.core.types import UNLIMITED, Entry, EntryType


def _varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out, value = out + bytes((value % 128 + 128,)), value // 128
    return out + bytes((value,))


def _encoded(entry: Entry) -> bytes:
    head = b"\x08" + _varint(int(entry.type)) + b"\x10" + _varint(entry.term) + b"\x18" + _varint(entry.index)
    return head if entry.data is None else head + b"\x22" + _varint(len(entry.data)) + entry.data


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 2**63, 2**64 - 1])
def test_varint_size(value: int) -> None:
    assert varint_size(value) == len(_varint(value))


def test_entry_size_is_the_encoded_length() -> None:
    rng = random.Random(5)
    for _ in range(300):
        data = rng.choice((None, b"", b"x" * rng.choice((1, 127, 128, 20_000))))
        entry = Entry(rng.randrange(2 ** rng.randrange(64)), rng.randrange(2 ** rng.randrange(64)), data)
        entry = entry._replace(type=rng.choice(tuple(EntryType)))
        assert entry_size(entry) == len(_encoded(entry))


def test_absent_and_empty_payloads_differ_only_in_the_encoded_size() -> None:
    absent, empty = Entry(1, 1, None), Entry(1, 1, b"")
    assert (payload_size(absent), payload_size(empty)) == (0, 0)
    assert entry_size(empty) - entry_size(absent) == 2


def test_sums() -> None:
    entries = (Entry(1, 1, None), Entry(1, 2, b"abc"), Entry(1, 3, b"de"))
    assert payloads_size(entries) == 5
    assert entries_size(entries) == sum(len(_encoded(entry)) for entry in entries)


@pytest.mark.parametrize(("bytes_max", "count"), [(0, 1), (8, 1), (15, 1), (16, 2), (23, 2), (24, 3), (UNLIMITED, 3)])
def test_prefix_fits_and_holds_at_least_one(bytes_max: int, count: int) -> None:
    entries = [Entry(1, index, b"") for index in (1, 2, 3)]
    assert {entry_size(entry) for entry in entries} == {8}
    assert prefix_count(entries, bytes_max) == count


def test_prefix_of_nothing() -> None:
    assert prefix_count((), 0) == 0
