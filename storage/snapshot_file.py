"""A snapshot as a file: what it is of, chunks of content with a checksum each, a digest over everything.

    header, 4 KiB     format, cluster, term, index, membership, version of the state inside, chunk size, CRC32C
    chunks            magic u32 | length u32 | number u64 | body CRC32C u32 | header CRC32C u32, then the body
    trailer, 72 B     magic | chunks | content bytes | file bytes | SHA-256 of all before it | CRC32C

Every chunk but the last is full, so the place of each follows from its number. The checksums of a chunk start from its
number and the header's own checksum: a chunk of another snapshot, or in another place, never verifies. A file without
its trailer is not a snapshot.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raftactors.core.types import Snapshot
from raftactors.errors import CorruptSnapshotError, ForeignDataError, StorageError
from raftactors.storage.blocks import BLOCK_BYTES, block_verifies, seal_block
from raftactors.storage.files import FileSystem
from raftactors.storage.record import crc32c, decode_snapshot, encode_snapshot

SNAPSHOT_MAGIC = b"RAFTSNAP"
TRAILER_MAGIC = b"RAFTSEND"
CHUNK_MAGIC = 0x4B4E4843
FORMAT_MAJOR = 1
FORMAT_MINOR = 0

HEADER_BYTES = BLOCK_BYTES
CHUNK_BYTES_MIN = 64
CHUNK_BYTES_MAX = 1024 * 1024
MEMBERS_MAX = 480
"""How many node ids the membership of a snapshot may list, so that it fits the header."""

_HEADER = struct.Struct("<8sHHIQIII")
_CHUNK = struct.Struct("<IIQI")
_CRC = struct.Struct("<I")
_TRAILER = struct.Struct("<8sQQQ32s")
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")

CHUNK_HEADER_BYTES = _CHUNK.size + _CRC.size
TRAILER_BYTES = _TRAILER.size + _CRC.size + 4


class SnapshotHeader(NamedTuple):
    """What a snapshot is of. `state_version` is the version of the replica's state inside, session table included."""

    cluster_id: int
    snapshot: Snapshot
    state_version: int
    chunk_bytes: int

    @property
    def name(self) -> str:
        """The file name."""
        return snapshot_name(self.snapshot.term, self.snapshot.index)


class SnapshotTrailer(NamedTuple):
    """How much a snapshot holds, and the SHA-256 of everything before the trailer."""

    chunks: int
    content_bytes: int
    file_bytes: int
    sha256: bytes


def snapshot_name(term: int, index: int) -> str:
    """The file name of the snapshot that ends at this entry, numbers in hexadecimal."""
    return f"{term:016x}-{index:016x}.snap"


def parse_snapshot_name(name: str) -> tuple[int, int] | None:
    """(term, index) of a snapshot's file name; None for any other name."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1], 16), int(match[2], 16))


def encode_header(header: SnapshotHeader) -> bytes:
    """The first block of the file. Raises StorageError for a membership of more than MEMBERS_MAX ids."""
    conf = header.snapshot.conf_state
    members = len(conf.voters) + len(conf.voters_outgoing) + len(conf.learners) + len(conf.learners_next)
    if members > MEMBERS_MAX:
        raise StorageError(f"a membership of {members} ids does not fit a snapshot, at most {MEMBERS_MAX} do")
    what = encode_snapshot(header.snapshot)
    fixed = _HEADER.pack(
        SNAPSHOT_MAGIC, FORMAT_MAJOR, FORMAT_MINOR, 0, header.cluster_id, header.state_version, header.chunk_bytes,
        len(what),
    )  # fmt: skip
    return seal_block(fixed + what)


def decode_header(content: bytes, *, file: str, cluster_id: int) -> SnapshotHeader:
    """Read and check the first block.

    Raises CorruptSnapshotError if it does not verify, StorageError for another format, ForeignDataError for a snapshot
    of another cluster; `cluster_id` 0 takes any.
    """
    if content[: len(SNAPSHOT_MAGIC)] != SNAPSHOT_MAGIC or not block_verifies(content):
        raise CorruptSnapshotError(f"{file}: the snapshot header (offset 0 to {HEADER_BYTES}) does not verify")
    _, major, _, flags, cluster, state_version, chunk_bytes, length = _HEADER.unpack_from(content)
    if major != FORMAT_MAJOR or flags:
        raise StorageError(
            f"{file}: snapshot format {major} (flags {flags:#x}), this program reads format {FORMAT_MAJOR} (flags "
            "0x0); use the version of raftactors that wrote it"
        )
    if cluster_id not in (0, cluster):
        raise ForeignDataError(
            f"{file}: snapshot of cluster {cluster}, expected cluster {cluster_id}; only `raftactors snapshot restore` "
            "makes a cluster out of it"
        )
    try:
        snapshot = decode_snapshot(content[_HEADER.size : _HEADER.size + length])
    except (struct.error, MemoryError) as error:
        raise CorruptSnapshotError(f"{file}: the snapshot header verifies but its membership does not fit") from error
    if not CHUNK_BYTES_MIN <= chunk_bytes <= CHUNK_BYTES_MAX or not snapshot.index:
        raise CorruptSnapshotError(f"{file}: the snapshot header verifies but has no possible index or chunk size")
    return SnapshotHeader(cluster, snapshot, state_version, chunk_bytes)


def header_seed(header_block: bytes) -> int:
    """What the checksums of the chunks behind this header start from."""
    return int(crc32c(header_block))


def encode_chunk(number: int, body: bytes | memoryview, seed: int) -> bytes:
    """One chunk with its header."""
    start = (seed ^ number) & 0xFFFF_FFFF
    head = _CHUNK.pack(CHUNK_MAGIC, len(body), number, crc32c(body, start))
    return b"".join((head, _CRC.pack(crc32c(head, start)), body))


def chunk_fault(record: bytes | memoryview, number: int, seed: int, chunk_bytes: int) -> str:
    """What is wrong with the bytes that should be chunk `number`; "" if they are."""
    if len(record) < CHUNK_HEADER_BYTES:
        return "is cut off"
    start = (seed ^ number) & 0xFFFF_FFFF
    magic, length, found, body_crc = _CHUNK.unpack_from(record)
    if _CRC.unpack_from(record, _CHUNK.size)[0] != crc32c(record[: _CHUNK.size], start):
        return "has a header that does not verify"
    if (magic, found) != (CHUNK_MAGIC, number) or not 0 < length <= chunk_bytes:
        return "is not the chunk that belongs here"
    if len(record) != CHUNK_HEADER_BYTES + length:
        return "has not the length that it names"
    return "" if crc32c(record[CHUNK_HEADER_BYTES:], start) == body_crc else "does not verify"


def chunk_offset(number: int, chunk_bytes: int) -> int:
    """Where chunk `number` begins."""
    return HEADER_BYTES + number * (CHUNK_HEADER_BYTES + chunk_bytes)


def chunk_length(number: int, trailer: SnapshotTrailer, chunk_bytes: int) -> int:
    """How many bytes chunk `number` has in the file, its header included."""
    body = chunk_bytes if number + 1 < trailer.chunks else trailer.content_bytes - number * chunk_bytes
    return CHUNK_HEADER_BYTES + body


def make_trailer(content_bytes: int, chunk_bytes: int, sha256: bytes) -> SnapshotTrailer:
    """The trailer of a file with so much content."""
    chunks = -(-content_bytes // chunk_bytes)
    file_bytes = HEADER_BYTES + chunks * CHUNK_HEADER_BYTES + content_bytes + TRAILER_BYTES
    return SnapshotTrailer(chunks, content_bytes, file_bytes, sha256)


def encode_trailer(trailer: SnapshotTrailer) -> bytes:
    """The last bytes of the file."""
    packed = _TRAILER.pack(TRAILER_MAGIC, *trailer)
    return packed + _CRC.pack(crc32c(packed)) + bytes(4)


def decode_trailer(content: bytes, header: SnapshotHeader, *, file: str) -> SnapshotTrailer:
    """Read and check the last bytes of the file. Raises CorruptSnapshotError."""
    if len(content) == TRAILER_BYTES and content[-4:] == bytes(4):
        magic, *fields = _TRAILER.unpack_from(content)
        (crc,) = _CRC.unpack_from(content, _TRAILER.size)
        if magic == TRAILER_MAGIC and crc == crc32c(content[: _TRAILER.size]):
            trailer = SnapshotTrailer(*fields)
            if trailer == make_trailer(trailer.content_bytes, header.chunk_bytes, trailer.sha256):
                return trailer
    raise CorruptSnapshotError(f"{file}: has no whole trailer, so it is not a snapshot")


class SnapshotReader:
    """An open snapshot file whose header and trailer hold; chunks are verified each time they are read.

    Raises CorruptSnapshotError, ForeignDataError or StorageError at once. `expected` (term, index) is what the file
    must be of. Belongs to one thread; close it.
    """

    def __init__(
        self, files: FileSystem, path: Path, *, cluster_id: int, expected: tuple[int, int] | None = None
    ) -> None:
        self.path = path
        self._files = files
        self._file = str(path)
        try:
            self._descriptor = files.open(path)
        except FileNotFoundError as error:
            raise CorruptSnapshotError(f"{path}: the snapshot is missing") from error
        try:
            self.header_block = files.pread(self._descriptor, HEADER_BYTES, 0)
            self.header = decode_header(self.header_block, file=self._file, cluster_id=cluster_id)
            found = (self.header.snapshot.term, self.header.snapshot.index)
            if expected is not None and found != expected:
                raise CorruptSnapshotError(
                    f"{path}: holds the snapshot of term and index {found}, expected {expected}; files were exchanged"
                )
            size = files.size(self._descriptor)
            start = max(0, size - TRAILER_BYTES)
            self.trailer = decode_trailer(
                files.pread(self._descriptor, TRAILER_BYTES, start), self.header, file=self._file
            )
            if self.trailer.file_bytes != size:
                raise CorruptSnapshotError(f"{path}: {size} bytes long where {self.trailer.file_bytes} were written")
        except BaseException:
            self.close()
            raise
        self.seed = header_seed(self.header_block)

    @property
    def snapshot(self) -> Snapshot:
        """Index, term and membership."""
        return self.header.snapshot

    def record(self, number: int) -> bytes:
        """Chunk `number` with its header, verified. Raises CorruptSnapshotError."""
        chunk_bytes = self.header.chunk_bytes
        offset = chunk_offset(number, chunk_bytes)
        content = self._files.pread(self._descriptor, chunk_length(number, self.trailer, chunk_bytes), offset)
        fault = chunk_fault(content, number, self.seed, chunk_bytes)
        if fault:
            raise CorruptSnapshotError(f"{self.path}: chunk {number} (offset {offset}) {fault}")
        return content

    def chunks(self) -> Iterator[memoryview]:
        """The content, chunk by chunk, each verified; the digest of all of it is checked with the last one.

        Raises CorruptSnapshotError.
        """
        digest = hashlib.sha256(self.header_block)
        for number in range(self.trailer.chunks):
            record = self.record(number)
            digest.update(record)
            yield memoryview(record)[CHUNK_HEADER_BYTES:]
        if digest.digest() != self.trailer.sha256:
            raise CorruptSnapshotError(f"{self.path}: every chunk verifies but the digest of the whole does not")

    def chunks_of_disk(self) -> Iterator[memoryview]:
        """The same, read from the disk itself and not from what the operating system remembers of it."""
        self._files.drop_cache(self._descriptor)
        return self.chunks()

    def verify(self) -> None:
        """Read everything from the disk itself. Raises CorruptSnapshotError."""
        for _ in self.chunks_of_disk():
            pass

    def close(self) -> None:
        """Give the file back; a second call does nothing."""
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
            self._descriptor = -1
