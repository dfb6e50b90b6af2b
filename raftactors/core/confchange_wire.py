"""Membership changes as entry payloads, in protocol-buffer layout.

Version 1: id (field 1), type (2), node id (3) are always written, the context (4) if there is one. Version 2:
transition (1) is always written, every change (2) as a message of type (1) and node id (2), the context (3) if
there is one. A version 2 payload that is absent or empty is the empty change, which leaves a joint configuration.
"""

from __future__ import annotations

from collections.abc import Iterator

from raftactors.core.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
)
from raftactors.errors import WireError

_WIRE_VARINT = 0
_WIRE_BYTES = 2
_VARINT_BITS_MAX = 64


def encode_conf_change(change: ConfChange | ConfChangeV2) -> bytes:
    """The payload of the entry that carries `change`; its version decides the entry's type."""
    if isinstance(change, ConfChange):
        parts = [_varint_field(1, change.id), _varint_field(2, change.type), _varint_field(3, change.node_id)]
        if change.context:
            parts.append(_bytes_field(4, change.context))
        return b"".join(parts)
    parts = [_varint_field(1, change.transition)]
    for single in change.changes:
        parts.append(_bytes_field(2, _varint_field(1, single.type) + _varint_field(2, single.node_id)))
    if change.context:
        parts.append(_bytes_field(3, change.context))
    return b"".join(parts)


def conf_change_entry(change: ConfChange | ConfChangeV2) -> Entry:
    """The entry, without term and index, that proposes `change`."""
    kind = EntryType.CONF_CHANGE if isinstance(change, ConfChange) else EntryType.CONF_CHANGE_V2
    return Entry(0, 0, encode_conf_change(change), kind)


def decode_conf_change(entry: Entry) -> ConfChange | ConfChangeV2:
    """The change that an entry of either type carries. Raises WireError if the payload is malformed."""
    payload = entry.data or b""
    try:
        if entry.type is EntryType.CONF_CHANGE:
            return _decode_v1(payload)
        if entry.type is EntryType.CONF_CHANGE_V2:
            return _decode_v2(payload)
    except ValueError as error:
        raise WireError("conf_change_malformed", f"entry {entry.index}: {error}") from None
    raise WireError("conf_change_malformed", f"entry {entry.index} is of type {entry.type.name}")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _varint_field(number: int, value: int) -> bytes:
    return bytes((number << 3 | _WIRE_VARINT,)) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | _WIRE_BYTES,)) + _varint(len(value)) + value


def _read_varint(payload: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if offset >= len(payload):
            raise ValueError("it ends inside a number")
        byte = payload[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= _VARINT_BITS_MAX:
            break
    if byte >= 0x80 or value >> _VARINT_BITS_MAX:
        raise ValueError(f"a number exceeds {_VARINT_BITS_MAX} bits")
    return value, offset


def _fields(payload: bytes) -> Iterator[tuple[int, int | bytes]]:
    offset = 0
    while offset < len(payload):
        tag, offset = _read_varint(payload, offset)
        value, offset = _read_varint(payload, offset)
        if tag & 7 == _WIRE_VARINT:
            yield tag >> 3, value
            continue
        if tag & 7 != _WIRE_BYTES:
            raise ValueError(f"wire type {tag & 7} of field {tag >> 3} is unknown")
        if offset + value > len(payload):
            raise ValueError(f"field {tag >> 3} is cut off")
        yield tag >> 3, payload[offset : offset + value]
        offset += value


def _decode_v1(payload: bytes) -> ConfChange:
    numbers = {1: 0, 2: 0, 3: 0}
    context = b""
    for field, value in _fields(payload):
        if field in numbers and isinstance(value, int):
            numbers[field] = value
        elif field == 4 and isinstance(value, bytes):
            context = value
        else:
            raise ValueError(f"field {field} is unknown")
    return ConfChange(ConfChangeType(numbers[2]), numbers[3], context, numbers[1])


def _decode_v2(payload: bytes) -> ConfChangeV2:
    transition = ConfChangeTransition.AUTO
    changes: list[ConfChangeSingle] = []
    context = b""
    for field, value in _fields(payload):
        if field == 1 and isinstance(value, int):
            transition = ConfChangeTransition(value)
        elif field == 2 and isinstance(value, bytes):
            changes.append(_decode_single(value))
        elif field == 3 and isinstance(value, bytes):
            context = value
        else:
            raise ValueError(f"field {field} is unknown")
    return ConfChangeV2(tuple(changes), transition, context)


def _decode_single(payload: bytes) -> ConfChangeSingle:
    numbers = {1: 0, 2: 0}
    for field, value in _fields(payload):
        if field not in numbers or not isinstance(value, int):
            raise ValueError(f"field {field} of a step is unknown")
        numbers[field] = value
    return ConfChangeSingle(ConfChangeType(numbers[1]), numbers[2])
