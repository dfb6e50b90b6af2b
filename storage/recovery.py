"""What to believe after a crash: the torn tail is told from damage, and only what nobody was told of is cut off.

A batch is acknowledged after its sync, and the next batch is written after that. So whatever exists only because a
batch was durable proves that it was: a record with a higher batch number, unless it says that the log does not sync
every batch; a mark of the batch; a later segment; SEGMENT_END; a commit index. With any such proof a batch that does
not verify is damage and the log is refused; without one it is the torn end of a write that nobody was told of.
Sources: "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from raftactors.errors import WAY_OUT_OF_DAMAGE, CorruptWalError
from raftactors.storage.blocks import BLOCK_BYTES, SECTOR_BYTES
from raftactors.storage.files import FileSystem, read_whole
from raftactors.storage.marks import MARK_BYTES, decode_mark, mark_offsets
from raftactors.storage.record import (
    BEHIND_UNSYNCED,
    RECORD_MAGIC_BYTES,
    SEGMENT_END_BYTES,
    RecordType,
    SegmentEnd,
    WalBatch,
    read_header,
)
from raftactors.storage.repair import Repair, nonzero_stop
from raftactors.storage.replay import LogState, OnBatch, Scan, first_bad_offset, scan_segment
from raftactors.storage.segment import (
    SegmentHeader,
    decode_segment_header,
    parse_segment_name,
)

_WAY_OUT = f"nothing was changed; {WAY_OUT_OF_DAMAGE}"


class Verdict(Enum):
    """What recovery found at the end of the log. Damage is no verdict but a CorruptWalError."""

    NEW = "new"
    CLEAN = "clean"
    TORN = "torn"


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What recovery read and repaired. `bytes` counts the segments read, `torn_bytes` what was cut off."""

    verdict: Verdict
    bytes: int = 0
    seconds: float = 0.0
    segments: int = 0
    batches: int = 0
    torn_bytes: int = 0
    broken_copy: Path | None = None


@dataclass(slots=True)
class Recovered:
    """The log, where it goes on, and what must be written before it may: the repairs are decided but not yet done."""

    log: LogState
    tail: Scan
    last_batch: list[WalBatch]
    verdict: Verdict
    bytes: int = 0
    segments: int = 0
    batches: int = 0
    torn_bytes: int = 0
    repairs: list[Repair] = field(default_factory=list)


def recover(
    files: FileSystem, folder: Path, *, cluster_id: int, node_id: int, on_batch: OnBatch | None = None
) -> Recovered:
    """Read all segments and decide. Changes nothing on the disk. `on_batch` is told of each batch that verifies.

    Raises CorruptWalError, ForeignDataError, or StorageError for an unknown format.
    """
    return _Recovery(files, folder, cluster_id, node_id).run(on_batch)


class _Recovery:
    def __init__(self, files: FileSystem, folder: Path, cluster_id: int, node_id: int) -> None:
        self._files = files
        self._folder = folder
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._log = LogState()
        self._repairs: list[Repair] = []
        self._bytes = self._batches = 0
        self._last_batch: list[WalBatch] = []

    def run(self, on_batch: OnBatch | None) -> Recovered:
        names = self._segment_names()
        previous: Scan | None = None
        previous_content = b""
        position = 0
        while position < len(names):
            name, is_last = names[position], position == len(names) - 1
            content, header = self._read(name)
            self._check_place(name, header, previous)
            if previous is not None and not _is_finished(previous_content, previous):
                self._finish_rotation(previous, previous_content, header, content, is_last)
            self._log.begin_segment(header)
            scan = scan_segment(str(self._folder / name), content, header, self._log, on_batch)
            self._batches += scan.batches
            self._last_batch = scan.last_batch or self._last_batch
            previous, previous_content = scan, content
            position += 1
            if scan.sealed is not None and position == len(names):
                # A node that writes while its log is read has begun the next segment since the names were listed.
                names += [later for later in self._segment_names() if later > name]
        assert previous is not None  # There is at least one segment, see _segment_names.
        recovered = self._decide_tail(previous, previous_content, len(names))
        self._check_beginning()
        return recovered

    def _segment_names(self) -> list[str]:
        found = sorted(name for name in self._files.listdir(self._folder) if parse_segment_name(name))
        sequences = [parsed[0] for name in found if (parsed := parse_segment_name(name))]
        oldest = sequences[0] if sequences else 1
        if sequences != list(range(oldest, oldest + len(sequences))) or not sequences:
            missing = next((i for i, s in enumerate(sequences, start=oldest) if s != i), oldest)
            raise CorruptWalError(
                f"{self._folder}: segment {missing} is missing or there twice among {found or 'no segments'} (offset "
                f"0, its index range is unknown); {_WAY_OUT}"
            )
        return found

    def _read(self, name: str) -> tuple[bytes, SegmentHeader]:
        path = self._folder / name
        descriptor = self._files.open(path)
        try:
            content = read_whole(self._files, descriptor)
        finally:
            self._files.close(descriptor)
        self._bytes += len(content)
        header = decode_segment_header(content, file=str(path), cluster_id=self._cluster_id, node_id=self._node_id)
        if len(content) != header.segment_bytes:
            raise CorruptWalError(
                f"{path}: {len(content)} bytes long where {header.segment_bytes} were written (offset {len(content)}, "
                f"index {header.first_index} and up); {_WAY_OUT}"
            )
        return content, header

    def _check_place(self, name: str, header: SegmentHeader, previous: Scan | None) -> None:
        """Whether the segment continues the log that the earlier ones hold.

        The oldest one is believed where it says it begins; `_check_beginning` sees to what must come before.
        """
        if previous is None and header.sequence > 1:
            return
        log = self._log
        chain, number = (0, 1) if previous is None else (previous.chain, previous.number + 1)
        expected = (
            log.end.index + 1, log.end.term, number, chain, log.hard_state, log.snapshot.term, log.snapshot.index,
        )  # fmt: skip
        found = (
            header.first_index, header.last_term, header.first_number, header.chain, header.hard_state,
            header.snapshot_term, header.snapshot_index,
        )  # fmt: skip
        fits = found == expected
        if previous is not None and previous.sealed is not None:
            named = SegmentEnd(header.sequence, header.first_index, header.salt, previous.chain)
            fits = fits and previous.sealed == named
        if fits:
            return
        if previous is not None and previous.sealed is None:
            raise self._corrupt(previous, previous.stop, f"segment {name} follows and was begun behind more than this")
        raise CorruptWalError(
            f"{self._folder / name}: does not continue the log before it (offset 0, index {log.end.index + 1} and up): "
            f"the header says {found}, the log before says {expected}; {_WAY_OUT}"
        )

    def _check_beginning(self) -> None:
        """Older segments may be gone only if the log vouches for a snapshot of everything that they held."""
        oldest, _ = self._log.segments[0]
        base, commit = self._log.base, self._log.hard_state.commit
        if oldest > 1 and not any(base.index <= record.index <= commit for record in self._log.records):
            raise CorruptWalError(
                f"{self._folder}: segment {oldest - 1} is missing (offset 0, index up to {base.index}), and the log "
                f"vouches for no snapshot that reaches index {base.index}; {_WAY_OUT}"
            )

    def _finish_rotation(
        self, previous: Scan, previous_content: bytes, header: SegmentHeader, content: bytes, is_last: bool
    ) -> None:
        """A segment whose end is not whole and that is not the last: legal only while the next one is still unused."""
        if not is_last or nonzero_stop(content) > BLOCK_BYTES:
            what = "SEGMENT_END is missing" if previous.sealed is None else "bytes stand behind SEGMENT_END"
            raise self._corrupt(previous, previous.stop, f"{what} although the next segment is in use")
        sealed = SegmentEnd(header.sequence, header.first_index, header.salt, previous.chain)
        path = self._folder / previous.header.name
        self._repairs.append(Repair.seal(path, previous_content, previous, sealed))
        previous.sealed = sealed

    def _decide_tail(self, scan: Scan, content: bytes, segments: int) -> Recovered:
        if scan.sealed is not None:
            raise CorruptWalError(
                f"{self._folder}: segment {scan.sealed.next_sequence} is missing: SEGMENT_END of {scan.header.name} "
                f"(offset {scan.stop}) names it as durable (index {scan.sealed.next_first_index} and up); {_WAY_OUT}"
            )
        stop = nonzero_stop(content)
        torn = stop > scan.stop and not _ends_in_marks(content, scan, stop)
        if torn and (proof := _later_mark(content, scan, stop) or _later_record(content, scan)):
            raise self._corrupt(scan, first_bad_offset(content, scan), proof)
        if self._log.hard_state.commit > self._log.end.index:
            commit = self._log.hard_state.commit
            raise self._corrupt(scan, first_bad_offset(content, scan), f"index {commit} is committed", commit)
        if torn:
            self._repairs.append(Repair.erase(self._folder / scan.header.name, content, scan.stop))
        return Recovered(
            self._log, scan, self._last_batch, Verdict.TORN if torn else Verdict.CLEAN, self._bytes, segments,
            self._batches, stop - scan.stop if torn else 0, self._repairs,
        )  # fmt: skip

    def _corrupt(self, scan: Scan, offset: int, proof: str, last: int | None = None) -> CorruptWalError:
        first = self._log.end.index + 1
        span = f"index {first} and up" if last is None else f"index {min(first, last)} to {last}"
        return CorruptWalError(
            f"{self._folder / scan.header.name}: damage at offset {offset} ({span}) in a log that was durable there: "
            f"{proof}; {_WAY_OUT}"
        )


def _is_finished(content: bytes, scan: Scan) -> bool:
    """Whether SEGMENT_END stands at the end of the segment, and nothing but zeros behind it."""
    return scan.sealed is not None and nonzero_stop(content) <= scan.stop + SEGMENT_END_BYTES


def _ends_in_marks(content: bytes, scan: Scan, stop: int) -> bool:
    """Whether nothing but zeros and good marks stand behind the last batch, as an undisturbed end looks."""
    offsets = mark_offsets(scan.stop)
    length = max(offsets) + MARK_BYTES - scan.stop
    if stop > scan.stop + length:
        return False
    rest = bytearray(content[scan.stop : stop].ljust(length, b"\0"))
    for offset in offsets:
        mark = decode_mark(content, offset, scan.header.salt)
        if mark is not None and mark.number < scan.number:
            rest[offset - scan.stop : offset - scan.stop + MARK_BYTES] = bytes(MARK_BYTES)
    return not any(rest)


def _later_mark(content: bytes, scan: Scan, stop: int) -> str:
    """A mark behind `scan.stop` that proves the batch there was durable, in words; "" if there is none."""
    for offset in range(mark_offsets(scan.stop)[0], stop, SECTOR_BYTES):
        mark = decode_mark(content, offset, scan.header.salt)
        if mark is not None and mark.number >= scan.number:
            ended = f"batch {mark.number} ended at index {mark.index} of term {mark.term}"
            return f"the mark at offset {offset} says that {ended}"
    return ""


def _later_record(content: bytes, scan: Scan) -> str:
    """A record behind the batch at `scan.stop` that proves it was durable, in words; "" if there is none."""
    position = content.find(RECORD_MAGIC_BYTES, scan.stop)
    while position != -1:
        if position % 8 == 0:
            header = read_header(content, position, scan.header.salt)
            if header is not None and header.number > scan.number and not header.flags & BEHIND_UNSYNCED:
                kind = RecordType(header.type).name if header.type in set(RecordType) else f"type {header.type}"
                return f"batch {header.number} ({kind}, offset {position}) stands behind batch {scan.number}"
        position = content.find(RECORD_MAGIC_BYTES, position + 1)
    return ""
