"""Records and batches of the write-ahead log, as bytes.

A record is a 24-byte header, a body, and zeros up to a multiple of 8. Header, little endian:

    magic u16 | type u8 | flags u8 | body length u32 | batch number u64 | body CRC32C u32 | header CRC32C u32

Both CRCs start from a value made of the segment's salt and the record's offset in the file, so bytes that are stale,
misplaced or recycled never verify. The header has its own CRC: a damaged length is thereby told from the end of the
log. Every record of a batch carries the batch's number; numbers go up by one through all segments. A valid record with
a higher number proves that the batch before it was durable, because a batch is written only after the sync of the one
before returned; a valid record with the same number proves nothing, since the sectors of one write reach the disk in
any order. A log that does not sync every batch says so in the flags of its records: with BEHIND_UNSYNCED set, a higher
number proves nothing either.

A batch is snapshots and entries in their order, the hard state last, and BATCH_END: all of it or nothing counts.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import crc32c as _crc32c_package

from raftactors.codec.entries import encode_entry, encode_entry_header
from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.errors import InvariantViolation

RECORD_MAGIC = 0x52D7
BEHIND_UNSYNCED = 1
"""Flag of a record: a batch before this one was not known to be durable when this one was written."""

RECORD_MAGIC_BYTES = RECORD_MAGIC.to_bytes(2, "little")

crc32c = _crc32c_package.crc32c

_HEADER = struct.Struct("<HBBIQI")
HEADER_START = struct.Struct("<HBxIQ")
"""Magic, type, body length and batch number, for a reader that checks the whole batch after it."""

_CRC = struct.Struct("<I")
_BATCH_END = struct.Struct("<IIQQQI4x")
_CHAIN = struct.Struct("<I4x")
_BATCH_END_CHAINED = struct.Struct("<IIQQQ")
_HARD_STATE = struct.Struct("<QQQ")
_SEGMENT_END = struct.Struct("<QQQI4x")
_SNAPSHOT = struct.Struct("<QQB3xIIII")

RECORD_HEADER_BYTES = _HEADER.size + _CRC.size
BATCH_END_BYTES = RECORD_HEADER_BYTES + _BATCH_END.size
SEGMENT_END_BYTES = RECORD_HEADER_BYTES + _SEGMENT_END.size

_LARGE_BYTES = 2_048  # From here on putting a payload behind its header costs more than two more parts.
_PADDING = [bytes(-length & 7) for length in range(8)]


class RecordType(IntEnum):
    """What a record's body is. A number is never used again for something else."""

    ENTRY = 1
    HARD_STATE = 2
    SNAPSHOT = 3
    BATCH_END = 4
    SEGMENT_END = 5
    SNAPSHOT_TAKEN = 6


# Plain numbers: looking a member up in an enumeration costs as much as packing a record.
_HARD_STATE_TYPE, _SNAPSHOT_TYPE, _SNAPSHOT_TAKEN_TYPE, _BATCH_END_TYPE = map(
    int, (RecordType.HARD_STATE, RecordType.SNAPSHOT, RecordType.SNAPSHOT_TAKEN, RecordType.BATCH_END)
)


class WalBatch(NamedTuple):
    """What one append asks to make durable: a snapshot taken over first, then the entries, then the hard state.

    `taken` vouches for a snapshot of this node's own log, which goes on as it is. It may end at any entry that the
    hard state of the same append says is committed.
    """

    hard_state: HardState | None
    entries: Sequence[Entry]
    snapshot: Snapshot | None = None
    taken: Snapshot | None = None


class SnapshotRecord(NamedTuple):
    """The log vouches for the snapshot that ends at this entry, by a record in the segment with this sequence."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    sequence: int


class LogEnd(NamedTuple):
    """Where a log ends: the last entry, or the snapshot that replaced it."""

    term: int = 0
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody calls


@dataclass(slots=True)
class Place:
    """Where the next batch goes: what its checksums start from, and the flags of its records."""

    salt: int
    offset: int
    number: int
    chain: int
    flags: int = 0


class EncodedBatch(NamedTuple):
    """One batch as bytes, and the state of the log behind it."""

    content: bytearray
    chain: int
    end: LogEnd
    entries: int
    hard_state: HardState | None
    snapshot: Snapshot | None
    vouched: tuple[Snapshot, ...] = ()


class RecordHeader(NamedTuple):
    """A record header whose CRC verified."""

    type: int
    length: int
    number: int
    body_crc: int
    flags: int


class BatchEnd(NamedTuple):
    """The body of a BATCH_END record. `crc` covers all records before it, `chain` every batch up to this one."""

    records: int
    crc: int
    bytes: int
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    chain: int


class SegmentEnd(NamedTuple):
    """The body of a SEGMENT_END record: the segment that follows, which already exists durably."""

    next_sequence: int
    next_first_index: int
    next_salt: int
    chain: int


def seed(salt: int, offset: int) -> int:
    """What the CRCs of a record at `offset` start from."""
    return salt ^ offset


def padded(length: int) -> int:
    """The length rounded up to a multiple of 8."""
    return (length + 7) & ~7


def encode_record(kind: int, body: bytes, place: Place, offset: int) -> bytes:
    """One record of the batch at `place` with its padding; the record itself begins at `offset`."""
    start, length = place.salt ^ offset, len(body)
    head = _HEADER.pack(RECORD_MAGIC, kind, place.flags, length, place.number, crc32c(body, start))
    content = head + _CRC.pack(crc32c(head, start)) + body
    return content + _PADDING[length & 7] if length & 7 else content


def encode_batch(batches: Sequence[WalBatch], place: Place, end: LogEnd) -> EncodedBatch | None:
    """Encode everything handed over as one batch behind a log that ends at `end`; None when there is nothing to write.

    Raises InvariantViolation if an entry leaves a gap or the commit index lies behind the last index: such a log could
    not be recovered.
    """
    parts: list[bytes] = []
    offset = place.offset
    entry_count = 0
    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    vouched: tuple[Snapshot, ...] = ()
    for new_hard_state, entries, taken_over, taken in batches:
        if taken_over is not None:
            snapshot = taken_over
            end = LogEnd(snapshot.term, snapshot.index)
            parts.append(encode_record(_SNAPSHOT_TYPE, encode_snapshot(snapshot), place, offset))
            offset += len(parts[-1])
            vouched += (snapshot,)
        if entries:
            offset = _put_entries(parts, entries, place, offset, end.index)
            last = entries[-1]
            end = LogEnd(last.term, last.index)
            entry_count += len(entries)
        if taken is not None:
            if taken.index > end.index:
                raise InvariantViolation(f"snapshot {taken.index} lies behind the last index {end.index}")
            parts.append(encode_record(_SNAPSHOT_TAKEN_TYPE, encode_snapshot(taken), place, offset))
            offset += len(parts[-1])
            vouched += (taken,)
        if new_hard_state is not None:
            hard_state = new_hard_state
    records = entry_count + len(vouched)
    if hard_state is not None:
        if hard_state.commit > end.index:
            raise InvariantViolation(f"commit index {hard_state.commit} lies behind the last index {end.index}")
        parts.append(encode_record(_HARD_STATE_TYPE, _HARD_STATE.pack(*hard_state), place, offset))
        records += 1
    if not records:
        return None
    content = bytearray().join(parts)
    chain = _seal(content, records, place, end)
    return EncodedBatch(content, chain, end, entry_count, hard_state, snapshot, vouched)


def _put_entries(parts: list[bytes], entries: Sequence[Entry], place: Place, offset: int, last: int) -> int:
    """Append the records of `entries`; returns the offset behind them. The one loop here that must be fast."""
    salt, number, flags = place.salt, place.number, place.flags
    put, pack_header, pack_crc, crc_of = parts.append, _HEADER.pack, _CRC.pack, crc32c
    if not 0 < entries[0].index <= last + 1:
        raise InvariantViolation(f"entry {entries[0].index} would leave a gap behind index {last}")
    expected = entries[0].index
    for entry in entries:
        if entry.index != expected:
            raise InvariantViolation(f"entry {entry.index} stands where index {expected} belongs")
        expected += 1
        start = salt ^ offset
        payload = entry.data
        if payload is not None and len(payload) >= _LARGE_BYTES:
            body = encode_entry_header(entry)
            length = len(body) + len(payload)
            head = pack_header(RECORD_MAGIC, 1, flags, length, number, crc_of(payload, crc_of(body, start)))
            parts += (head, pack_crc(crc_of(head, start)), body, payload, _PADDING[length & 7])
            offset += (length + 31) & ~7
            continue
        body = encode_entry(entry)
        length = len(body)
        head = pack_header(RECORD_MAGIC, 1, flags, length, number, crc_of(body, start))
        put(head)
        put(pack_crc(crc_of(head, start)))
        put(body)
        if length & 7:
            put(_PADDING[length & 7])
        offset += (length + 31) & ~7
    return offset


def _seal(content: bytearray, records: int, place: Place, end: LogEnd) -> int:
    """Put the BATCH_END behind the records; returns the new chain value."""
    position = len(content)
    start, length = place.offset + position, position + BATCH_END_BYTES
    crc = crc32c(content, place.salt ^ place.offset)
    chained = _BATCH_END_CHAINED.pack(records, crc, length, *end)
    chain = crc32c(chained, place.chain)
    content += encode_record(_BATCH_END_TYPE, chained + _CHAIN.pack(chain), place, start)
    return chain


def batch_crc(records: memoryview | bytes, salt: int, offset: int) -> int:
    """The CRC over all records of the batch at `offset`, BATCH_END excluded."""
    return crc32c(records, seed(salt, offset))


def next_chain(sealed: BatchEnd, chain: int) -> int:
    """The chain value behind a batch: depends on this batch and on every one before it."""
    packed = _BATCH_END_CHAINED.pack(sealed.records, sealed.crc, sealed.bytes, sealed.term, sealed.index)
    return crc32c(packed, chain)


def read_header(content: bytes, offset: int, salt: int) -> RecordHeader | None:
    """The record header at `offset`, or None if nothing there verifies."""
    if offset + RECORD_HEADER_BYTES > len(content):
        return None
    magic, kind, flags, length, number, body_crc = _HEADER.unpack_from(content, offset)
    if magic != RECORD_MAGIC:
        return None
    head = content[offset : offset + _HEADER.size]
    if _CRC.unpack_from(content, offset + _HEADER.size)[0] != crc32c(head, seed(salt, offset)):
        return None
    return RecordHeader(kind, length, number, body_crc, flags)


def body_verifies(content: bytes, offset: int, header: RecordHeader, salt: int) -> bool:
    """Whether the body behind the header at `offset` is the one it was written with."""
    start = offset + RECORD_HEADER_BYTES
    if start + padded(header.length) > len(content):
        return False
    body = memoryview(content)[start : start + header.length]
    return bool(crc32c(body, seed(salt, offset)) == header.body_crc)


def decode_batch_end(content: bytes, offset: int) -> BatchEnd:
    """The BATCH_END body at `offset`."""
    return BatchEnd(*_BATCH_END.unpack_from(content, offset))


def decode_hard_state(content: bytes, offset: int) -> HardState:
    """The HARD_STATE body at `offset`."""
    return HardState(*_HARD_STATE.unpack_from(content, offset))


def encode_segment_end(end: SegmentEnd, place: Place) -> bytes:
    """The last record of a full segment."""
    return encode_record(RecordType.SEGMENT_END, _SEGMENT_END.pack(*end), place, place.offset)


def decode_segment_end(content: bytes, offset: int) -> SegmentEnd:
    """The SEGMENT_END body at `offset`."""
    return SegmentEnd(*_SEGMENT_END.unpack_from(content, offset))


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Index, term and membership of a snapshot; its content is in a file of its own."""
    conf = snapshot.conf_state
    groups = (conf.voters, conf.voters_outgoing, conf.learners, conf.learners_next)
    ids = [node_id for group in groups for node_id in group]
    fixed = _SNAPSHOT.pack(snapshot.index, snapshot.term, conf.auto_leave, *map(len, groups))
    return fixed + struct.pack(f"<{len(ids)}Q", *ids)


def decode_snapshot(body: bytes) -> Snapshot:
    """The opposite of `encode_snapshot`. Raises struct.error when bytes are missing."""
    index, term, auto_leave, *counts = _SNAPSHOT.unpack_from(body)
    groups: list[tuple[int, ...]] = []
    position = _SNAPSHOT.size
    for count in counts:
        groups.append(struct.unpack_from(f"<{count}Q", body, position))
        position += 8 * count
    voters, voters_outgoing, learners, learners_next = groups
    return Snapshot(index, term, ConfState(voters, voters_outgoing, learners, learners_next, bool(auto_leave)))
