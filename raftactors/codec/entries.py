"""The one binary form of an entry, for the disk and for the wire.

Layout, little endian: term u64, index u64, payload length u32 (0xFFFFFFFF: absent), type u8, three zero bytes, payload.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import repeat

from raftactors.core.types import Entry, EntryType
from raftactors.errors import WireError

_HEADER = struct.Struct("<QQIB3x")
_ABSENT = 0xFFFF_FFFF
_NORMAL = EntryType.NORMAL
_TYPES = {int(kind): kind for kind in EntryType}

ENTRY_HEADER_BYTES = _HEADER.size
"""Bytes that an encoded entry has beyond its payload."""


def encode_entry(entry: Entry) -> bytes:
    """Encode one entry; the payload must be shorter than 2**32 - 1 bytes."""
    if entry.data is None:
        return _HEADER.pack(entry.term, entry.index, _ABSENT, entry.type)
    return _HEADER.pack(entry.term, entry.index, len(entry.data), entry.type) + entry.data


def encode_entry_header(entry: Entry) -> bytes:
    """What `encode_entry` puts in front of the payload; saves copying a large one."""
    return _HEADER.pack(entry.term, entry.index, _ABSENT if entry.data is None else len(entry.data), entry.type)


def decode_entry(buffer: bytes | memoryview, offset: int = 0) -> tuple[Entry, int]:
    """Decode the entry at `offset`; returns it and the offset behind it. Raises WireError when bytes are missing."""
    end = offset + _HEADER.size
    if end > len(buffer):
        raise WireError("entry_truncated", f"{len(buffer) - offset} bytes left for a header of {_HEADER.size}")
    term, index, length, kind = _HEADER.unpack_from(buffer, offset)
    entry_type = _TYPES.get(kind)
    if entry_type is None:
        raise WireError("entry_type_unknown", f"type {kind} at index {index}")
    if length == _ABSENT:
        return Entry(term, index, None, entry_type), end
    if end + length > len(buffer):
        raise WireError("entry_truncated", f"{len(buffer) - end} bytes left for a payload of {length}")
    return Entry(term, index, bytes(buffer[end : end + length]), entry_type), end + length


def decode_entries(buffer: bytes, starts: Sequence[int], lengths: list[int]) -> list[Entry]:
    """Decode one entry from each start and length; for logs of millions of entries.

    Raises WireError when an entry does not have exactly its length, struct.error when bytes are missing.
    """
    size, unpack = _HEADER.size, _HEADER.unpack_from
    heads = [unpack(buffer, start) for start in starts]
    terms, indexes, payload_lengths, kinds = zip(*heads, strict=True) if heads else ((), (), (), ())
    if any(kinds) or [length + size for length in payload_lengths] != lengths:
        return [_decode_whole(buffer, start, length) for start, length in zip(starts, lengths, strict=True)]
    payloads = [buffer[start + size : start + length] for start, length in zip(starts, lengths, strict=True)]
    # What stands in the loop of every entry is called from C throughout; Entry(...) alone would cost as much again.
    return list(map(tuple.__new__, repeat(Entry), zip(terms, indexes, payloads, repeat(_NORMAL))))


def _decode_whole(buffer: bytes, offset: int, length: int) -> Entry:
    entry, end = decode_entry(buffer, offset)
    if end != offset + length:
        raise WireError("entry_length", f"entry {entry.index} is {end - offset} bytes long where {length} were told")
    return entry
