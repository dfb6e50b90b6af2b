"""The write-ahead log: what was appended is durable when `append` returns, unless another durability was asked for.

One writer. Each append is one batch: one write that also carries the marks of the batch before it (see
`raftactors.storage.marks`), and one sync. No batch is overwritten or cut off: a conflicting suffix is appended and
the replay drops what it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from raftactors.config import Durability
from raftactors.core.types import HardState, Snapshot
from raftactors.errors import DiskFullError, StorageError
from raftactors.storage.blocks import BLOCK_BYTES
from raftactors.storage.descriptors import means_exhausted
from raftactors.storage.encoding import encode_batch, encode_marks
from raftactors.storage.files import FileSystem
from raftactors.storage.identity import Identity
from raftactors.storage.marks import FarMarks, Mark, marks_stop
from raftactors.storage.preallocation import Preallocator, means_disk_full
from raftactors.storage.record import (
    BEHIND_UNSYNCED,
    EncodedBatch,
    LogEnd,
    Place,
    SegmentEnd,
    SnapshotRecord,
    WalBatch,
    encode_segment_end,
)
from raftactors.storage.replay import LogState
from raftactors.storage.segment import (
    SegmentHeader,
    encode_segment_header,
    segment_bytes_for,
    segment_name,
)
from raftactors.storage.syncing import IntervalSync
from raftactors.storage.witness import Witness

_SALT_BYTES = 4


@dataclass(slots=True)
class WalStats:
    """Counters since the log was opened. `bytes` are those of batches; seconds are of the last sync of a batch."""

    batches: int = 0
    entries: int = 0
    bytes: int = 0
    syncs: int = 0
    segments: int = 0
    last_sync_seconds: float = 0.0


class Wal:
    """The log of one data folder, opened by `open_data_dir`. Not for use by two threads at once."""

    def __init__(
        self,
        files: FileSystem,
        folder: Path,
        *,
        segment_bytes: int,
        incarnation: int,
        random_bytes: Callable[[int], bytes],
        header: SegmentHeader,
        place: Place,
        log: LogState,
        durability: Durability = Durability(),  # noqa: B008  # frozen
        witness: Witness | None = None,
    ) -> None:
        self._files = files
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._incarnation = incarnation
        self._random_bytes = random_bytes
        self._header = header
        self._place = place
        self._end = log.end
        self._hard_state = log.hard_state
        self._snapshot = log.snapshot
        self._segments = list(log.segments)
        self._records = list(log.records)
        self._written = self._durable = Mark(place.number - 1, log.end.term, log.end.index)
        self._far_marks = FarMarks()
        self._spares = Preallocator(files, folder)
        self._spares.adopt(segment_bytes)
        self._usable = True
        self._witness = witness
        self.durability = durability
        self._sync_each = durability.is_safe
        self._descriptor = files.open(folder / header.name)
        self.stats = WalStats()
        self._interval_sync = IntervalSync(self.sync, durability.interval_ms, threaded=files.concurrent)

    def append(self, batches: Sequence[WalBatch]) -> None:
        """Make everything in `batches` durable as one unit, in order; returns when it is.

        With a durability of `interval` it returns when the batch is written and becomes durable within the interval,
        with `none` when the operating system gets to it: a power cut then loses whole batches off the end of the log.

        What is durable is shown to the witness, if there is one, before `append` or `sync` returns; a batch that makes
        the log end earlier is written after the witness was lowered.

        The last hard state counts. A batch with a snapshot starts the log anew behind that snapshot; an entry that is
        there already replaces it and everything after it. Nothing to write is nothing done. A failed sync ends the
        process. Raises DiskFullError when there is no room for the next segment; nothing has changed then, and the
        same batches may be appended later. Raises StorageError when the disk refuses a write otherwise; the log is
        unusable from then on. Raises InvariantViolation for a gap in the entries or a commit index behind the last
        one.
        """
        if not self._usable:
            raise StorageError(f"{self._folder}: the log is closed, or a write failed; start the node again")
        place = self._place
        place.flags = 0 if self._durable.number == place.number - 1 else BEHIND_UNSYNCED
        encoded = encode_batch(batches, place, self._end)
        if encoded is None:
            return
        self._usable = False  # Until all of it is done: an error in between leaves what nobody may build on.
        try:
            if place.offset + len(encoded.content) > self._header.batches_end:
                encoded = self._go_on_in_next_segment(encoded, batches)
            self._write(encoded)
        except DiskFullError:
            self._usable = True
            raise
        except OSError as error:
            raise StorageError(
                f"{self._folder}: the log could not be written: {error}; nothing of this batch counts, free or repair "
                "the disk and start the node again"
            ) from error
        self._usable = True

    def sync(self) -> None:
        """Make everything written so far durable; a failure ends the process. For another thread than the writer's."""
        with self._interval_sync.lock:
            if self._descriptor < 0 or self._durable == self._written:
                return
            # What the sync covers: each was noted after it had been written.
            written, hard_state, end = self._written, self._hard_state, self._end
            self._timed_sync()
            self._durable = written
            if self._witness is not None:
                self._witness.show(hard_state, end)

    def begin_witness(self) -> None:
        """Tell the witness, durably, where the log stands that was recovered; all of that is durable."""
        if self._witness is not None:
            self._usable = False  # As in `append`: after a failed sync nothing more is written.
            with self._interval_sync.lock:
                self._witness.begin(self._hard_state, self._end)
            self._usable = True

    @property
    def lacks_space(self) -> bool:
        """Whether the next segment could not be made for lack of room; what is left of the live one can be written.

        The next segment is asked for when half of the live one is used, so the other half is the reserve in which
        terms and votes, and what was under way, stay writable on a full disk.
        """
        return self._spares.lacks_space

    def seek_space(self) -> None:
        """Try again, in the background, to make the next segment; `lacks_space` then tells how it went."""
        self._spares.start(self._segment_bytes)

    @property
    def folder(self) -> Path:
        """Where the segments are."""
        return self._folder

    @property
    def identity(self) -> Identity:
        """Whose log this is."""
        header = self._header
        return Identity(header.cluster_id, header.node_id, self._incarnation)

    def kept_snapshots(self) -> list[SnapshotRecord]:
        """The two newest snapshots that the log vouches for, the older one first; fewer if there are no two."""
        newest = {record.index: record for record in self._records}
        return [newest[index] for index in sorted(newest)[-2:]]

    def release_segments(self) -> list[str]:
        """The names of the segments that nothing needs any more, the oldest first; the caller removes them.

        What stays: every entry behind the older one of the two newest snapshots, and the records of both. The log
        forgets the released ones.
        """
        kept = self.kept_snapshots()
        if len(kept) < 2:
            return []
        older = kept[0]
        first = max(
            sequence
            for sequence, first_index in self._segments
            if sequence == self._segments[0][0] or (first_index <= older.index + 1 and sequence <= older.sequence)
        )
        released = [segment_name(*segment) for segment in self._segments if segment[0] < first]
        self._segments = [segment for segment in self._segments if segment[0] >= first]
        self._records = [record for record in self._records if record.sequence >= first]
        return released

    def close(self) -> None:
        """Mark the last batch as durable, make that durable too, and give the file back.

        Raises StorageError when the disk refuses the mark; nothing is lost by that.
        """
        if self._descriptor < 0:
            return
        self._interval_sync.close()
        self._spares.close()
        try:
            if self._usable:
                self.sync()
                place = self._place
                marks = encode_marks(place.salt, self._durable, place.offset, far=True)
                self._files.pwrite(self._descriptor, marks, place.offset)
                self._files.fdatasync(self._descriptor)
        except OSError as error:
            raise StorageError(
                f"{self._folder}: the log could not be closed: {error}; free or repair the disk"
            ) from error
        finally:
            self._usable = False
            self._files.close(self._descriptor)
            self._descriptor = -1

    def _write(self, encoded: EncodedBatch) -> None:
        place, stats = self._place, self.stats
        content, chain, end, entries, _, snapshot, vouched = encoded
        offset, number, length = place.offset, place.number, len(content)
        stop = offset + length
        durable = self._durable
        far = self._far_marks.is_due(durable.number, offset, number, stop)
        content += encode_marks(place.salt, durable, stop, far=far)
        witness = self._witness
        if witness is None or end >= self._end:
            self._put(content, encoded)
        else:
            with self._interval_sync.lock:  # Or a sync in between would show the old end once more.
                witness.lower(end)
                self._put(content, encoded)
        if self._sync_each:
            self._timed_sync()
            self._durable = self._written
            if witness is not None:
                witness.show(self._hard_state, end)
        place.offset = stop
        place.number = number + 1
        place.chain = chain
        if snapshot is not None:
            self._snapshot = snapshot
        for vouched_for in vouched:
            self._records.append(SnapshotRecord(vouched_for.term, vouched_for.index, self._header.sequence))
        stats.batches += 1
        stats.entries += entries
        stats.bytes += length
        if stop > self._header.segment_bytes >> 1 and not self._spares.lacks_space:
            self._spares.start(self._segment_bytes)
        if self.durability.interval_ms:
            self._interval_sync.written()

    def _put(self, content: bytearray, encoded: EncodedBatch) -> None:
        self._files.pwrite(self._descriptor, content, self._place.offset)
        if encoded.hard_state is not None:
            self._hard_state = encoded.hard_state
        self._end = encoded.end
        self._written = Mark(self._place.number, *encoded.end)

    def _timed_sync(self) -> None:
        started = perf_counter()
        self._files.fdatasync(self._descriptor)
        self.stats.last_sync_seconds = perf_counter() - started
        self.stats.syncs += 1

    def _go_on_in_next_segment(self, encoded: EncodedBatch, batches: Sequence[WalBatch]) -> EncodedBatch:
        """The batch does not fit this segment any more: encode it for its place in the next one."""
        self._rotate(segment_bytes_for(len(encoded.content), self._segment_bytes))
        moved = encode_batch(batches, self._place, self._end)
        assert moved is not None  # It was not None at the old place.
        return moved

    def _rotate(self, segment_bytes: int) -> None:
        """Begin the next segment, then end this one: SEGMENT_END never names a segment that could be missing.

        All of this segment is durable before, in every mode of durability: the next one is proof that it was.
        """
        self.sync()
        files, place = self._files, self._place
        place.flags = 0
        header = new_segment_header(
            self.identity,
            sequence=self._header.sequence + 1,
            first_number=place.number + 1,  # SEGMENT_END takes the number in between.
            segment_bytes=segment_bytes,
            end=self._end,
            hard_state=self._hard_state,
            snapshot=self._snapshot,
            chain=place.chain,
            random_bytes=self._random_bytes,
        )
        try:
            descriptor = create_segment(files, self._folder, header, self._spares)
        except OSError as error:
            if not means_disk_full(error):
                raise
            self._spares.lacks_space = True
            way_out = "raise the limit of open files" if means_exhausted(error) else "free space"
            raise DiskFullError(f"{self._folder}: no room for the next segment: {error}; {way_out}") from error
        sealed = SegmentEnd(header.sequence, header.first_index, header.salt, place.chain)
        # Zeros over the marks: behind the end of a finished segment stands nothing.
        room = marks_stop(place.offset) - place.offset
        record = encode_segment_end(sealed, place).ljust(room, b"\0")
        with self._interval_sync.lock:
            files.pwrite(self._descriptor, record, place.offset)
            files.fdatasync(self._descriptor)
            files.close(self._descriptor)
            self._descriptor = descriptor
            self._header = header
            self._place = Place(header.salt, BLOCK_BYTES, header.first_number, header.chain)
            self._segments.append((header.sequence, header.first_index))
            self._written = self._durable = Mark(header.first_number - 1, *self._end)
        self.stats.segments += 1
        self.stats.syncs += 1


def new_segment_header(
    identity: Identity,
    *,
    sequence: int,
    first_number: int,
    segment_bytes: int,
    end: LogEnd,
    hard_state: HardState,
    snapshot: Snapshot,
    chain: int,
    random_bytes: Callable[[int], bytes],
) -> SegmentHeader:
    """The header of a segment that continues a log with this end, hard state and snapshot; draws a new salt."""
    return SegmentHeader(
        cluster_id=identity.cluster_id,
        node_id=identity.node_id,
        incarnation=identity.incarnation,
        sequence=sequence,
        first_index=end.index + 1,
        last_term=end.term,
        first_number=first_number,
        segment_bytes=segment_bytes,
        hard_state=hard_state,
        snapshot_term=snapshot.term,
        snapshot_index=snapshot.index,
        salt=int.from_bytes(random_bytes(_SALT_BYTES), "little"),
        chain=chain,
    )


def create_segment(files: FileSystem, folder: Path, header: SegmentHeader, spares: Preallocator) -> int:
    """Put a segment in place durably, zero-filled behind its header; returns its descriptor."""
    spare = spares.take(header.segment_bytes)
    descriptor = files.open(spare)
    try:
        files.pwrite(descriptor, encode_segment_header(header), 0)
        files.fdatasync(descriptor)
        files.rename(spare, folder / header.name)
    except OSError:
        files.close(descriptor)
        raise
    files.fsync_dir(folder)
    return descriptor
