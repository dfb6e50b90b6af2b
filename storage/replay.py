"""From the bytes of a segment back to the log: whole batches only, each verified before anything of it counts."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from raftactors.codec.entries import decode_entries
from raftactors.core.types import Entry, HardState, Snapshot
from raftactors.errors import WAY_OUT_OF_DAMAGE, CorruptWalError, StorageError, WireError
from raftactors.storage.blocks import BLOCK_BYTES
from raftactors.storage.record import (
    HEADER_START,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    SEGMENT_END_BYTES,
    BatchEnd,
    LogEnd,
    RecordType,
    SegmentEnd,
    SnapshotRecord,
    WalBatch,
    batch_crc,
    body_verifies,
    decode_batch_end,
    decode_hard_state,
    decode_segment_end,
    decode_snapshot,
    next_chain,
    read_header,
)
from raftactors.storage.segment import SegmentHeader

_INDEX_OF = itemgetter(1)
_HEADER_AND_PADDING_BYTES = RECORD_HEADER_BYTES + 7


class Run(NamedTuple):
    """Records of one type that follow each other in a verified batch: where their bodies begin and how long they are.

    Two lists, because logs of millions of entries are read and a pair for each would cost a tenth of the time.
    """

    type: int
    starts: list[int]
    lengths: list[int]


class StoredBatch(NamedTuple):
    """A batch that verified, still as bytes: its records without BATCH_END, and where it begins and ends."""

    start: int
    stop: int
    runs: list[Run]
    end: BatchEnd


@dataclass(slots=True)
class LogState:
    """What the batches replayed so far amount to.

    `snapshot` is the last one that was taken over from another node, `base` the entry before the first of `entries`:
    where that snapshot ends, or what the oldest segment continues if older ones are gone. `records` are the snapshots
    that the log vouches for, in the order of their records.
    """

    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)
    snapshot: Snapshot = field(default_factory=Snapshot)
    end: LogEnd = field(default_factory=LogEnd)
    base: LogEnd = field(default_factory=LogEnd)
    records: list[SnapshotRecord] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)

    def begin_segment(self, header: SegmentHeader) -> None:
        """Go on with this segment; the first one says where the log begins."""
        if not self.segments:
            self.hard_state = header.hard_state
            self.snapshot = Snapshot(header.snapshot_index, header.snapshot_term)
            self.base = self.end = LogEnd(header.last_term, header.first_index - 1)
        self.segments.append((header.sequence, header.first_index))

    def apply(self, batches: list[WalBatch]) -> None:
        """Take over one decoded batch. Raises ValueError if an entry leaves a gap or a snapshot lies behind the end."""
        for batch in batches:
            if batch.snapshot is not None:
                self.snapshot = batch.snapshot
                self.entries.clear()
                self.base = self.end = LogEnd(batch.snapshot.term, batch.snapshot.index)
                self._vouch(batch.snapshot)
            if batch.entries:
                self._append(batch.entries[0].index, list(batch.entries))
            if batch.taken is not None:
                if batch.taken.index > self.end.index:
                    raise ValueError(f"a snapshot at {batch.taken.index} in a log that ends at {self.end.index}")
                self._vouch(batch.taken)
            if batch.hard_state is not None:
                self.hard_state = batch.hard_state

    def _vouch(self, snapshot: Snapshot) -> None:
        self.records.append(SnapshotRecord(snapshot.term, snapshot.index, self.segments[-1][0] if self.segments else 0))

    def _append(self, first: int, entries: list[Entry]) -> None:
        if self.snapshot.index < first <= self.base.index:
            # What the oldest segment continues was replaced in it, before the snapshot that let the older ones go. The
            # term of the entry before is not known any more; the snapshot, which covers it, knows.
            self.base = LogEnd(0, first - 1)
            self.entries.clear()
        position = first - self.base.index - 1
        if not 0 <= position <= len(self.entries):
            raise ValueError(f"entry {first} cannot follow a log that ends at {self.end.index}")
        del self.entries[position:]  # An entry that is written again replaces all from its index on.
        self.entries += entries
        self.end = LogEnd(entries[-1].term, entries[-1].index)


OnBatch = Callable[[SegmentHeader, bytes, int, StoredBatch], None]


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


def scan_segment(
    file: str, content: bytes, header: SegmentHeader, log: LogState, on_batch: OnBatch | None = None
) -> Scan:
    """Replay every batch of the segment into `log`, up to SEGMENT_END or the first that does not verify.

    `log` has been told of the segment by `begin_segment`.

    `on_batch` is told of each batch with the bytes of the segment and the number of the batch.

    Raises CorruptWalError for a batch that verifies and yet does not fit the log, StorageError for record types of a
    later version.
    """
    scan = Scan(header, BLOCK_BYTES, header.first_number, header.chain)
    view = memoryview(content)
    while True:
        stored = _read_batch(content, view, scan)
        if stored is None:
            scan.sealed = _read_segment_end(content, scan)
            return scan
        try:
            batches = _decode_batch(file, content, stored)
            log.apply(batches)
        except (ValueError, WireError, struct.error) as error:
            raise CorruptWalError(
                f"{file}: the batch at offset {stored.start} verifies but does not fit the log (index "
                f"{log.end.index + 1} to {stored.end.index}): {error}; {WAY_OUT_OF_DAMAGE}"
            ) from error
        if log.end != (stored.end.term, stored.end.index):
            raise CorruptWalError(
                f"{file}: the batch at offset {stored.start} claims to end at index {stored.end.index} of term "
                f"{stored.end.term}, but index {log.end.index} of term {log.end.term} was read; {WAY_OUT_OF_DAMAGE}"
            )
        if on_batch is not None:
            on_batch(header, content, scan.number, stored)
        scan.batches += 1
        scan.last_batch = _since_snapshot(batches)
        scan.stop, scan.chain = stored.stop, stored.end.chain
        scan.number += 1


def verify_sealed_segment(file: str, content: bytes, header: SegmentHeader) -> Iterator[int]:
    """Verify a finished segment without decoding it; yields the offset behind each batch, at the end that of all.

    Raises CorruptWalError for anything but whole batches, SEGMENT_END and zeros.
    """
    scan = Scan(header, BLOCK_BYTES, header.first_number, header.chain)
    view, last_index = memoryview(content), header.first_index - 1
    while (stored := _read_batch(content, view, scan)) is not None:
        scan.stop, scan.chain, last_index = stored.stop, stored.end.chain, stored.end.index
        scan.number += 1
        yield scan.stop
    offset = first_bad_offset(content, scan)
    if _read_segment_end(content, scan) is not None:
        rest = content[scan.stop + SEGMENT_END_BYTES :].lstrip(b"\0")
        if not rest:
            yield len(content)
            return
        offset = len(content) - len(rest)
    raise CorruptWalError(
        f"{file}: damage at offset {offset} (index {last_index + 1} and up) in a finished segment; take two snapshots, "
        "which let it go, or this folder cannot be opened again"
    )


def _since_snapshot(batches: list[WalBatch]) -> list[WalBatch]:
    """What may be written again behind a batch: entries in front of its snapshot would no longer fit the log there."""
    taken_over = [place for place, batch in enumerate(batches) if batch.snapshot is not None]
    return batches[taken_over[-1] :] if taken_over else batches


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
    runs: list[Run] = []
    last_kind = -1
    unpack, record_magic, header_bytes = HEADER_START.unpack_from, RECORD_MAGIC, RECORD_HEADER_BYTES
    while True:
        if offset > limit:
            return None
        magic, kind, length, found = unpack(content, offset)
        if found != number or magic != record_magic:
            return None
        if kind != last_kind:
            if kind == RecordType.BATCH_END:
                break
            last_kind = kind
            runs.append(Run(kind, [], []))
            put_start, put_length = runs[-1].starts.append, runs[-1].lengths.append
        put_start(offset + header_bytes)
        put_length(length)
        offset += (length + _HEADER_AND_PADDING_BYTES) & -8
    records = sum([len(run.starts) for run in runs])
    header = read_header(content, offset, salt)
    if header is None or not body_verifies(content, offset, header, salt):
        return None
    end = decode_batch_end(content, offset + RECORD_HEADER_BYTES)
    stop = offset + RECORD_HEADER_BYTES + header.length
    if end.records != records or end.bytes != stop - scan.stop or end.chain != next_chain(end, scan.chain):
        return None
    if end.crc != batch_crc(view[scan.stop : offset], salt, scan.stop):
        return None
    return StoredBatch(scan.stop, stop, runs, end)


def _decode_batch(file: str, content: bytes, stored: StoredBatch) -> list[WalBatch]:
    """The batch as it was handed over, in the same order, so that it can also be written again."""
    batches: list[WalBatch] = []
    snapshot: Snapshot | None = None
    hard_state: HardState | None = None
    entries: list[Entry] = []
    for kind, starts, lengths in stored.runs:
        if kind == RecordType.ENTRY:
            entries = decode_entries(content, starts, lengths)
            if list(map(_INDEX_OF, entries)) != list(range(entries[0].index, entries[0].index + len(entries))):
                # An append that replaced entries of another one in the same batch: each again a batch of its own.
                *replaced, entries = _ascending_runs(entries)
                batches.append(WalBatch(None, replaced[0], snapshot))
                batches += [WalBatch(None, run) for run in replaced[1:]]
                snapshot = None
            continue
        for start, length in zip(starts, lengths, strict=True):
            if kind == RecordType.HARD_STATE:
                hard_state = decode_hard_state(content, start)
            elif kind == RecordType.SNAPSHOT:
                if snapshot is not None or entries:
                    batches.append(WalBatch(None, entries, snapshot))
                    entries = []
                snapshot = decode_snapshot(content[start : start + length])
            elif kind == RecordType.SNAPSHOT_TAKEN:
                taken = decode_snapshot(content[start : start + length])
                batches.append(WalBatch(None, entries, snapshot, taken))
                snapshot, entries = None, []
            else:
                raise StorageError(
                    f"{file}: the record at offset {start - RECORD_HEADER_BYTES} has type {kind}, which this program "
                    "does not know; use the version of raftactors that wrote it"
                )
    batches.append(WalBatch(hard_state, entries, snapshot))
    return batches


def _ascending_runs(entries: list[Entry]) -> list[list[Entry]]:
    """The entries cut wherever an index does not follow the one before it."""
    cuts = [i for i in range(1, len(entries)) if entries[i].index != entries[i - 1].index + 1]
    return [entries[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(entries)], strict=True)]
