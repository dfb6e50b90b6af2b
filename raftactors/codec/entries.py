"""The one binary form of an entry, for the disk and for the wire.

Layout, little endian: term u64, index u64, payload length u32 (0xFFFFFFFF: absent), type u8, three zero bytes, payload.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

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


def decode_entries(buffer: bytes, spans: Sequence[tuple[int, int]]) -> list[Entry]:
    """Decode one entry from each (offset, length); for logs of millions of entries.

    Raises WireError when an entry does not fill its span exactly.
    """
    entries: list[Entry] = []
    put, unpack, make, size = entries.append, _HEADER.unpack_from, tuple.__new__, _HEADER.size
    for offset, length in spans:
        term, index, data_bytes, kind = unpack(buffer, offset)
        if data_bytes + size == length and kind == 0:
            put(make(Entry, (term, index, buffer[offset + size : offset + length], _NORMAL)))
            continue
        entry, end = decode_entry(buffer, offset)
        if end != offset + length:
            raise WireError("entry_length", f"entry {index} is {end - offset} bytes long where {length} were told")
        put(entry)
    return entries
