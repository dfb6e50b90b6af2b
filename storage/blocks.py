"""The units of a disk that files are laid out by, and blocks that carry their own checksum."""

from __future__ import annotations

import struct

from raftactors.storage.record import crc32c

BLOCK_BYTES = 4096
"""What file systems and most disks read and write as a whole."""

SECTOR_BYTES = 512
"""The least that any disk writes as a whole."""

_CRC = struct.Struct("<I")


def whole_blocks(length: int) -> int:
    """The length rounded up to whole blocks."""
    return (length + BLOCK_BYTES - 1) & -BLOCK_BYTES


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
