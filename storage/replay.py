"""From the bytes of a segment back to the log: whole batches only, each verified before anything of it counts."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from raftactors.codec.entries import decode_entry
from raftactors.core.types import Entry, HardState, Snapshot
from raftactors.errors import CorruptWalError, StorageError, WireError
from raftactors.storage.record import (
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    BatchEnd,
    LogEnd,
    RecordType,
    SegmentEnd,
    WalBatch,
    batch_crc,
    body_verifies,
    decode_batch_end,
    decode_hard_state,
    decode_segment_end,
    decode_snapshot,
    next_chain,
    read_header,
    read_header_unverified,
)
from raftactors.storage.segment import BLOCK_BYTES, SegmentHeader


class Span(NamedTuple):
    """One record of a verified batch: its type and where its body lies."""

    type: int
    start: int
    length: int


class StoredBatch(NamedTuple):
    """A batch that verified, still as bytes: its records without BATCH_END, and where it begins and ends."""

    start: int
    stop: int
    spans: list[Span]
    end: BatchEnd


@dataclass(slots=True)
class LogState:
    """What the batches replayed so far amount to."""

    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)
    snapshot: Snapshot = field(default_factory=Snapshot)
    end: LogEnd = field(default_factory=LogEnd)

    def apply(self, batches: list[WalBatch]) -> None:
        """Take over one decoded batch. Raises ValueError if an entry leaves a gap."""
        for batch in batches:
            if batch.snapshot is not None:
                self.snapshot = batch.snapshot
                self.entries.clear()
                self.end = LogEnd(batch.snapshot.term, batch.snapshot.index)
            if batch.entries:
                self._append(batch.entries[0].index, list(batch.entries))
            if batch.hard_state is not None:
                self.hard_state = batch.hard_state

    def _append(self, first: int, entries: list[Entry]) -> None:
        position = first - self.snapshot.index - 1
        if not 0 <= position <= len(self.entries):
            raise ValueError(f"entry {first} cannot follow a log that ends at {self.end.index}")
        del self.entries[position:]  # An entry that is written again replaces all from its index on.
        self.entries += entries
        self.end = LogEnd(entries[-1].term, entries[-1].index)


@dataclass(slots=True)
class Scan:
    """How far a segment could be read: where the first batch that does not verify would begin, and what is expected."""

    header: SegmentHeader
    stop: int
    number: int
    chain: int
    batches: int = 0
    sealed: SegmentEnd | None = None
    last_batch: list[WalBatch] = field(default_factory=list)


def scan_segment(file: str, content: bytes, header: SegmentHeader, log: LogState) -> Scan:
    """Replay every batch of the segment into `log`, up to SEGMENT_END or the first that does not verify.

    Raises CorruptWalError for a batch that verifies and yet does not fit the log, StorageError for record types of a
    later version.
    """
    scan = Scan(header, BLOCK_BYTES, header.first_number, header.chain)
    view = memoryview(content)
    while True:
        sealed = _read_segment_end(content, scan)
        if sealed is not None:
            scan.sealed = sealed
            return scan
        stored = _read_batch(content, view, scan)
        if stored is None:
            return scan
        try:
            batches = _decode_batch(file, content, stored)
            log.apply(batches)
        except (ValueError, WireError, struct.error) as error:
            raise CorruptWalError(
                f"{file}: the batch at offset {stored.start} verifies but does not fit the log (index "
                f"{log.end.index + 1} to {stored.end.index}): {error}; restore the folder from a copy, or remove it "
                "and let this node join anew"
            ) from error
        if log.end != (stored.end.term, stored.end.index):
            raise CorruptWalError(
                f"{file}: the batch at offset {stored.start} claims to end at index {stored.end.index} of term "
                f"{stored.end.term}, but index {log.end.index} of term {log.end.term} was read; restore from a copy"
            )
        scan.batches += 1
        scan.last_batch = batches
        scan.stop, scan.chain = stored.stop, stored.end.chain
        scan.number += 1


def first_bad_offset(content: bytes, scan: Scan) -> int:
    """Where in the batch at `scan.stop` the first record lies that does not verify by itself."""
    offset = scan.stop
    while True:
        header = read_header(content, offset, scan.header.salt)
        if (
            header is None
            or header.number != scan.number
            or not body_verifies(content, offset, header, scan.header.salt)
        ):
            return offset
        if header.type in (RecordType.BATCH_END, RecordType.SEGMENT_END):
            return offset
        offset += RECORD_HEADER_BYTES + ((header.length + 7) & ~7)


def _read_segment_end(content: bytes, scan: Scan) -> SegmentEnd | None:
    header = read_header(content, scan.stop, scan.header.salt)
    if header is None or header.type != RecordType.SEGMENT_END or header.number != scan.number:
        return None
    if not body_verifies(content, scan.stop, header, scan.header.salt):
        return None
    sealed = decode_segment_end(content, scan.stop + RECORD_HEADER_BYTES)
    return sealed if sealed.chain == scan.chain else None


def _read_batch(content: bytes, view: memoryview, scan: Scan) -> StoredBatch | None:
    """The batch at `scan.stop`, or None. Walks by the lengths as they stand; the CRC over all of it decides."""
    offset, limit = scan.stop, len(content) - RECORD_HEADER_BYTES
    number, salt = scan.number, scan.header.salt
    spans: list[Span] = []
    while True:
        if offset > limit:
            return None
        magic, kind, length, found = read_header_unverified(content, offset)
        if magic != RECORD_MAGIC or found != number:
            return None
        if kind == RecordType.BATCH_END:
            break
        start = offset + RECORD_HEADER_BYTES
        spans.append(Span(kind, start, length))
        offset = start + ((length + 7) & ~7)
    header = read_header(content, offset, salt)
    if header is None or not body_verifies(content, offset, header, salt):
        return None
    end = decode_batch_end(content, offset + RECORD_HEADER_BYTES)
    stop = offset + RECORD_HEADER_BYTES + header.length
    if end.records != len(spans) or end.bytes != stop - scan.stop or end.chain != next_chain(end, scan.chain):
        return None
    if end.crc != batch_crc(view[scan.stop : offset], salt, scan.stop):
        return None
    return StoredBatch(scan.stop, stop, spans, end)


def _decode_batch(file: str, content: bytes, stored: StoredBatch) -> list[WalBatch]:
    """The batch as it was handed over, in the same order, so that it can also be written again."""
    batches: list[WalBatch] = []
    snapshot: Snapshot | None = None
    hard_state: HardState | None = None
    entries: list[Entry] = []
    for kind, start, length in stored.spans:
        if kind == RecordType.ENTRY:
            entry, stop = decode_entry(content, start)
            if stop != start + length:
                raise ValueError(f"entry {entry.index} is {stop - start} bytes long in a record of {length}")
            if entries and entry.index != entries[-1].index + 1:
                batches.append(WalBatch(None, entries, snapshot))
                snapshot, entries = None, []
            entries.append(entry)
        elif kind == RecordType.HARD_STATE:
            hard_state = decode_hard_state(content, start)
        elif kind == RecordType.SNAPSHOT:
            if snapshot is not None or entries:
                batches.append(WalBatch(None, entries, snapshot))
                entries = []
            snapshot = decode_snapshot(content[start : start + length])
        else:
            raise StorageError(
                f"{file}: the record at offset {start - RECORD_HEADER_BYTES} has type {kind}, which this program does "
                "not know; use the version of raftactors that wrote it"
            )
    batches.append(WalBatch(hard_state, entries, snapshot))
    return batches
