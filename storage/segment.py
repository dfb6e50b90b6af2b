"""Segments of the write-ahead log: their names, their header, and the marks behind their last batch.

    offset 0        header, 4 KiB with its CRC32C in the last four bytes
    offset 4096     batches, then SEGMENT_END
    behind them     while the segment is the last one: two marks; the rest is zeros, written before it is put to use

A mark says that the batch with its number was durable. It is made after the sync of that batch has returned, and
written in one piece with the batch that follows, or when the log is closed. So damage to a batch with a mark is never
taken for a torn write, and a torn write never has a mark. One mark lies at the sector behind the end of the log, the
other at the block behind that, so that neither a lost sector nor two exchanged ones nor a lost block takes them along
with the batch. The next batch is written over both. They stand so close to it because a page elsewhere costs a second
write of the disk at each sync: 16 microseconds of 100 for a table of marks at the front of the file, 2 for this.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from raftactors.core.types import HardState
from raftactors.errors import ConfigError, CorruptWalError, ForeignDataError, StorageError
from raftactors.storage.record import crc32c

SEGMENT_MAGIC = b"RAFTWAL\0"
FORMAT_MAJOR = 2
FORMAT_MINOR = 1

BLOCK_BYTES = 4096
SECTOR_BYTES = 512
MARK_BYTES = 32
MARK_MAGIC = 0x4B52414D
SEGMENT_BYTES_MIN = 16 * 1024
SEGMENT_BYTES_MAX = 1024 * 1024 * 1024

_ROOM_BYTES = BLOCK_BYTES + SECTOR_BYTES
_MARK = struct.Struct("<IQQQ")
_CRC = struct.Struct("<I")
_ZEROS = bytes(BLOCK_BYTES)
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
# magic, major, minor, flags, cluster, node, incarnation, sequence, first index, last term, first batch number,
# segment bytes, hard state (term, vote, commit), snapshot (term, index), salt, chain
_HEADER = struct.Struct("<8sHHI13QII")


class SegmentHeader(NamedTuple):
    """What a segment knows of itself and of the log before it.

    `first_index` is one more than the last index before the segment, `last_term` the term of that entry. The hard
    state and the snapshot are those in force where the segment begins. `chain` is the chain value there.
    """

    cluster_id: int
    node_id: int
    incarnation: int
    sequence: int
    first_index: int
    last_term: int
    first_number: int
    segment_bytes: int
    hard_state: HardState
    snapshot_term: int
    snapshot_index: int
    salt: int
    chain: int

    @property
    def name(self) -> str:
        """The file name."""
        return segment_name(self.sequence, self.first_index)

    @property
    def batches_end(self) -> int:
        """Where the last batch must end, so that the marks, or SEGMENT_END, have room behind it."""
        return self.segment_bytes - _ROOM_BYTES


class Mark(NamedTuple):
    """The batch with this number was durable and left the log ending here."""

    number: int
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls


def segment_name(sequence: int, first_index: int) -> str:
    """The name of a segment: both numbers in hexadecimal, so that the order of names is the order of segments."""
    return f"{sequence:016x}-{first_index:016x}.wal"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """(sequence, first index) of a segment's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1], 16), int(match[2], 16))


def check_segment_bytes(segment_bytes: int) -> int:
    """The size rounded up to whole blocks. Raises ConfigError outside of 16 KiB to 1 GiB."""
    if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX:
        raise ConfigError(
            f"segment_bytes is {segment_bytes}; it must be {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes"
        )
    return _whole_blocks(segment_bytes)


def segment_bytes_for(batch_bytes: int, segment_bytes: int) -> int:
    """The size of a segment that holds at least one batch of `batch_bytes`: `segment_bytes`, or more if it must be.

    Raises StorageError if the batch exceeds what any segment may hold.
    """
    size = max(segment_bytes, _whole_blocks(BLOCK_BYTES + batch_bytes + _ROOM_BYTES))
    if size > SEGMENT_BYTES_MAX:
        raise StorageError(f"a batch of {batch_bytes} bytes does not fit a segment of at most {SEGMENT_BYTES_MAX}")
    return size


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The first block of a segment."""
    content = _HEADER.pack(
        SEGMENT_MAGIC, FORMAT_MAJOR, FORMAT_MINOR, 0,
        header.cluster_id, header.node_id, header.incarnation, header.sequence, header.first_index, header.last_term,
        header.first_number, header.segment_bytes, *header.hard_state, header.snapshot_term, header.snapshot_index,
        header.salt, header.chain,
    )  # fmt: skip
    return seal_block(content)


def decode_segment_header(content: bytes, *, file: str, cluster_id: int, node_id: int) -> SegmentHeader:
    """Read and check the first block of the segment file named `file`.

    Raises CorruptWalError if it does not verify or does not belong under this name, StorageError for a format of
    another major version, ForeignDataError for a segment of another cluster or node.
    """
    if content[: len(SEGMENT_MAGIC)] != SEGMENT_MAGIC or not block_verifies(content):
        raise CorruptWalError(
            f"{file}: the segment header (offset 0 to {BLOCK_BYTES}) does not verify, so no index of this segment can "
            "be trusted; restore the folder from a copy, or remove it and let this node join anew"
        )
    (_, major, _, flags, cluster, node, incarnation, sequence, first_index, last_term, first_number, size, term, vote,
     commit, snapshot_term, snapshot_index, salt, chain) = _HEADER.unpack_from(content)  # fmt: skip
    if major != FORMAT_MAJOR or flags:
        raise StorageError(
            f"{file}: written in format {major} (flags {flags:#x}), this program reads format {FORMAT_MAJOR} (flags "
            "0x0); use the version of raftactors that wrote it"
        )
    if (cluster, node) != (cluster_id, node_id):
        raise ForeignDataError(
            f"{file}: segment of cluster {cluster}, node {node} where cluster {cluster_id}, node {node_id} was "
            "expected; put the folder of this node in its place"
        )
    header = SegmentHeader(
        cluster, node, incarnation, sequence, first_index, last_term, first_number, size,
        HardState(term, vote, commit), snapshot_term, snapshot_index, salt, chain,
    )  # fmt: skip
    if header.name != file.rpartition("/")[2]:
        raise CorruptWalError(
            f"{file}: the header is that of {header.name} (offset 0, first index {first_index}); segment files were "
            "exchanged or renamed; give them their own names back"
        )
    return header


def mark_offsets(stop: int) -> tuple[int, int]:
    """Where the two marks behind a log that ends at `stop` lie: at the next sector, and at the block behind that."""
    near = (stop + SECTOR_BYTES - 1) & -SECTOR_BYTES
    return near, (near & -BLOCK_BYTES) + BLOCK_BYTES


def encode_marks(salt: int, mark: Mark, stop: int) -> bytes:
    """Everything from `stop`, the end of the log, to the end of the second mark: zeros and both marks."""
    near, far = mark_offsets(stop)
    packed = _MARK.pack(MARK_MAGIC, *mark)
    return b"".join(
        (
            _ZEROS[: near - stop], packed, _CRC.pack(crc32c(packed, salt ^ near)),
            _ZEROS[: far - near - MARK_BYTES], packed, _CRC.pack(crc32c(packed, salt ^ far)),
        )
    )  # fmt: skip


def decode_mark(content: bytes, offset: int, salt: int) -> Mark | None:
    """The mark at `offset`; None if nothing there verifies."""
    if offset + MARK_BYTES > len(content):
        return None
    magic, *fields = _MARK.unpack_from(content, offset)
    if magic != MARK_MAGIC:
        return None
    (crc,) = _CRC.unpack_from(content, offset + _MARK.size)
    if crc != crc32c(content[offset : offset + _MARK.size], salt ^ offset):
        return None
    return Mark(*fields)


def seal_block(content: bytes) -> bytes:
    """`content` as a block of 4 KiB that ends in its own CRC32C."""
    body = content.ljust(BLOCK_BYTES - _CRC.size, b"\0")
    return body + _CRC.pack(crc32c(body))


def block_verifies(content: bytes) -> bool:
    """Whether the first 4 KiB of `content` are a block that `seal_block` made."""
    if len(content) < BLOCK_BYTES:
        return False
    body = memoryview(content)[: BLOCK_BYTES - _CRC.size]
    return bool(_CRC.unpack_from(content, BLOCK_BYTES - _CRC.size)[0] == crc32c(body))


def _whole_blocks(length: int) -> int:
    return (length + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES
