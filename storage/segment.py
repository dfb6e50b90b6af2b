"""Segments of the write-ahead log: their names and their header.

offset 0        header, 4 KiB with its CRC32C in the last four bytes
offset 4096     batches, then SEGMENT_END
behind them     while the segment is the last one: marks (`raftactors.storage.marks`); the rest is zeros, written
                before it is put to use
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from raftactors.core.types import HardState
from raftactors.errors import WAY_OUT_OF_DAMAGE, ConfigError, CorruptWalError, ForeignDataError, StorageError
from raftactors.storage.blocks import BLOCK_BYTES, SECTOR_BYTES, block_verifies, seal_block, whole_blocks

SEGMENT_MAGIC = b"RAFTWAL\0"
FORMAT_MAJOR = 3
FORMAT_MINOR = 0

SEGMENT_BYTES_MIN = 16 * 1024
SEGMENT_BYTES_MAX = 1024 * 1024 * 1024

_ROOM_BYTES = BLOCK_BYTES + SECTOR_BYTES  # What ends in the last but one block has its far mark in the last.
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
    return whole_blocks(segment_bytes)


def segment_bytes_for(batch_bytes: int, segment_bytes: int) -> int:
    """The size of a segment that holds at least one batch of `batch_bytes`: `segment_bytes`, or more if it must be.

    Raises StorageError if the batch exceeds what any segment may hold.
    """
    size = max(segment_bytes, whole_blocks(BLOCK_BYTES + batch_bytes + _ROOM_BYTES))
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
            f"be trusted; {WAY_OUT_OF_DAMAGE}"
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
