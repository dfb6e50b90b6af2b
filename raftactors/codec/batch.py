"""The payload of a NORMAL entry: the client frames that one node gathered into one proposal.

Layout, little endian: kind u8 (1), version u8 (1), flags u16 (0), frame count u32, origin node u64, origin incarnation
u64, timestamp_ms u64; then per frame pending id u64 and length u32; then the frames joined. A frame is its one-byte
kind (`FrameKind`) and the client's body without the request number. The time stamp stands at a fixed offset, so that
the leader can put its own time in without decoding anything.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from raftactors.codec.frames import LOGGED_KINDS
from raftactors.errors import InvariantViolation, WireError

_HEADER = struct.Struct("<BBHIQQQ")
_FRAME = struct.Struct("<QI")
_STAMP = struct.Struct("<Q")
_STAMP_OFFSET = _HEADER.size - _STAMP.size
_KIND = 1
_VERSION = 1

BATCH_FRAMES_MAX = 65_535
"""Frames in one batch; a frame's position must fit the low 16 bits of a session id."""

BATCH_HEADER_BYTES = _HEADER.size
"""Bytes of a batch before its frame table."""

BATCH_FRAME_BYTES = _FRAME.size
"""Bytes that each frame costs beyond its kind and body."""


class Batch(NamedTuple):
    """A decoded command batch. Each frame is (pending id, kind, body); the bodies are views into the payload."""

    origin_node: int
    origin_incarnation: int
    timestamp_ms: int
    frames: list[tuple[int, int, memoryview]]


def encode_batch(
    frames: Sequence[tuple[int, bytes]], *, origin_node: int, origin_incarnation: int, timestamp_ms: int
) -> bytes:
    """Join frames, each (pending id, kind byte + body), into one entry payload.

    The caller has checked the frames and holds to 1 to `BATCH_FRAMES_MAX` of them.
    """
    count = len(frames)
    if not 1 <= count <= BATCH_FRAMES_MAX:
        raise InvariantViolation(f"a batch of {count} frames; 1 to {BATCH_FRAMES_MAX} are allowed")
    parts = [_HEADER.pack(_KIND, _VERSION, 0, count, origin_node, origin_incarnation, timestamp_ms)]
    parts += [_FRAME.pack(pending_id, len(frame)) for pending_id, frame in frames]
    parts += [frame for _, frame in frames]
    return b"".join(parts)


def stamp_batch(data: bytes, now_ms: int) -> bytes:
    """Replace the time stamp of a valid batch by `now_ms` (milliseconds of the epoch); the leader does this once."""
    if len(data) < _HEADER.size:
        raise InvariantViolation(f"{len(data)} bytes are no command batch; validate_batch() comes first")
    return b"".join((data[:_STAMP_OFFSET], _STAMP.pack(now_ms), memoryview(data)[_HEADER.size :]))


def decode_batch(data: bytes | memoryview) -> Batch:
    """Decode an entry payload. Raises WireError with a reason for anything that is not a whole, known batch."""
    view = memoryview(data)
    origin_node, origin_incarnation, timestamp_ms, table = _read_table(view)
    frames: list[tuple[int, int, memoryview]] = []
    start = _HEADER.size + len(table) * _FRAME.size
    for pending_id, length in table:
        end = start + length
        frames.append((pending_id, view[start], view[start + 1 : end]))
        start = end
    return Batch(origin_node, origin_incarnation, timestamp_ms, frames)


def validate_batch(data: bytes | memoryview) -> None:
    """Check the structure of a batch that a peer proposes: header, table, total length, frame kinds.

    The bodies stay unread: a body that does not decode is answered when it is applied, the same way on every node.
    Raises WireError.
    """
    view = memoryview(data)
    _, _, _, table = _read_table(view)
    offset = _HEADER.size + len(table) * _FRAME.size
    for _, length in table:
        if view[offset] not in LOGGED_KINDS:
            raise WireError("batch_frame_kind", f"frame kind {view[offset]} does not belong into the log")
        offset += length


def _read_table(view: memoryview) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Read header and frame table; afterwards every frame is known to lie inside the buffer with its kind byte."""
    if len(view) < _HEADER.size:
        raise WireError("batch_truncated", f"{len(view)} bytes for a header of {_HEADER.size}")
    kind, version, flags, count, origin_node, origin_incarnation, timestamp_ms = _HEADER.unpack_from(view)
    if kind != _KIND:
        raise WireError("batch_kind_unknown", f"payload kind {kind}; this version knows {_KIND}")
    if version != _VERSION:
        raise WireError("batch_version_unknown", f"batch version {version}; this version knows {_VERSION}")
    if flags:
        raise WireError("batch_flags_unknown", f"flags {flags:#06x}; this version knows none")
    if not 1 <= count <= BATCH_FRAMES_MAX:
        raise WireError("batch_count", f"{count} frames; 1 to {BATCH_FRAMES_MAX} are allowed")
    table_end = _HEADER.size + count * _FRAME.size
    if len(view) < table_end:
        raise WireError("batch_truncated", f"{len(view)} bytes for a table that ends at {table_end}")
    table: list[tuple[int, int]] = list(_FRAME.iter_unpack(view[_HEADER.size : table_end]))
    lengths = [length for _, length in table]
    if min(lengths) < 1:
        raise WireError("batch_frame_empty", "a frame has no kind byte")
    if table_end + sum(lengths) != len(view):
        raise WireError("batch_length", f"the table promises {table_end + sum(lengths)} bytes, {len(view)} came")
    return origin_node, origin_incarnation, timestamp_ms, table
