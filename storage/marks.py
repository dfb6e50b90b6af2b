"""Marks behind the last batch: proof that a batch was durable, kept where damage to the batch does not reach.

A mark says that the batch with its number was durable. It is made after the sync of that batch has returned, and
written in one piece with the batch that follows, or when the log is closed. So damage to a batch with a mark is never
taken for a torn write, and a torn write never has a mark. With every batch two marks are written: one at the next
sector, one at the last sector of that block, or the first of the next where these are the same; neither a lost sector
nor two exchanged ones take both along with the batch. A third one at the next block outlives the loss of a whole block.
It proves as much however old it is, as long as it tells of a batch in that block; so it is written once a block,
which saves the disk a second page at most syncs.

A log that was not closed, and of whose last block three sectors or more are lost but not all, may lack the batches in
them: only what was written in the last moments before a crash, and damaged since.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from raftactors.storage.blocks import BLOCK_BYTES, SECTOR_BYTES
from raftactors.storage.record import crc32c

MARK_BYTES = 32

_MAGIC = 0x4B52414D
_MARK = struct.Struct("<IQQQ")
_CRC = struct.Struct("<I")
_ZEROS = bytes(BLOCK_BYTES)


class Mark(NamedTuple):
    """The batch with this number was durable and left the log ending here."""

    number: int
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls


def mark_offsets(stop: int) -> tuple[int, int, int]:
    """Where marks behind a log that ends at `stop` may lie: near, at the edge of that block, and far.

    The far one may be the same as one of the others.
    """
    near = (stop + SECTOR_BYTES - 1) & -SECTOR_BYTES
    edge = near | (BLOCK_BYTES - SECTOR_BYTES)
    return near, edge if edge != near else near + SECTOR_BYTES, (stop & -BLOCK_BYTES) + BLOCK_BYTES


def marks_stop(stop: int) -> int:
    """Where the last block ends that may hold marks behind a log that ends at `stop`."""
    return (max(mark_offsets(stop)) & -BLOCK_BYTES) + BLOCK_BYTES


def encode_marks(salt: int, mark: Mark, stop: int, *, far: bool) -> bytes:
    """Everything from `stop`, the end of the log, to the end of the block with the last mark: zeros and the marks."""
    near, edge, beyond = mark_offsets(stop)
    packed = _MARK.pack(_MAGIC, *mark)
    packed += _CRC.pack(crc32c(packed, salt))
    parts = [_ZEROS[: near - stop], packed, _ZEROS[: edge - near - MARK_BYTES], packed]
    if far and beyond > edge:
        parts += _ZEROS[: beyond - edge - MARK_BYTES], packed
        edge = beyond
    parts.append(_ZEROS[: -(edge + MARK_BYTES) & (BLOCK_BYTES - 1)])
    return b"".join(parts)


def decode_mark(content: bytes, offset: int, salt: int) -> Mark | None:
    """The mark at `offset`; None if nothing there verifies.

    What it tells stays true wherever it stands in the segment, so its checksum does not depend on the place.
    """
    if offset + MARK_BYTES > len(content):
        return None
    magic, number, term, index = _MARK.unpack_from(content, offset)
    (crc,) = _CRC.unpack_from(content, offset + _MARK.size)
    if magic != _MAGIC or crc != crc32c(content[offset : offset + _MARK.size], salt):
        return None
    return Mark(number, term, index)


class FarMarks:
    """Decides when the far mark is due, for the batches of one segment in their order."""

    def __init__(self) -> None:
        self._block = -1
        self._first_number = 0
        self._is_covered = False

    def is_due(self, durable_number: int, start: int, number: int, stop: int) -> bool:
        """Whether the batch with this number at `start` to `stop` carries a far mark, that tells of `durable_number`.

        To be asked once a batch: the answer counts as done.
        """
        block = start & -BLOCK_BYTES
        if block != self._block:
            # The first batch with bytes in this block is this one, or the one before if that reaches into it.
            self._block, self._first_number, self._is_covered = block, number - (start != block), False
        if self._is_covered or durable_number < self._first_number:
            return False
        self._is_covered = True
        # Behind a batch that leaves the block, the other two marks are outside of it as well.
        return stop < block + BLOCK_BYTES
