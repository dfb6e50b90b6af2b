"""What two nodes say to each other while a snapshot moves: the body of a frame on the snapshot socket.

Everything is fixed binary fields; chunks travel as they lie in the file. The sender of the snapshot says OFFER, CHUNK,
RESTART, ABORT, the receiver ACCEPT, CREDIT, FINISHED. All carry the number that the sender gave the transfer.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from raftactors.errors import WireError

NUMBER_MAX = 2**63 - 1
SHA256_BYTES = 32
HEADER_BYTES = 4096
"""What an offer carries of the file: its first block."""

_KIND = struct.Struct("<B3xQ")
_OFFER = struct.Struct("<QQQQ32s")
_ACCEPT = struct.Struct("<Q32s")
_CHUNK = struct.Struct("<Q")
_CREDIT = struct.Struct("<Q")
_FINISHED = struct.Struct("<B")

CHUNK_OVERHEAD_BYTES = _KIND.size + _CHUNK.size
"""What a chunk costs beyond its bytes in the file."""


class SnapshotKind(IntEnum):
    """What a frame says. The numbers are the wire format and never change."""

    OFFER = 1
    ACCEPT = 2
    CHUNK = 3
    CREDIT = 4
    FINISHED = 5
    ABORT = 6
    RESTART = 7


class Outcome(IntEnum):
    """How a transfer ended, as its receiver sees it."""

    ARRIVED = 0
    STALE = 1
    BUSY = 2
    MALFORMED = 3
    DISK = 4
    TOO_LARGE = 5


class Offer(NamedTuple):
    """A leader of `term` has a snapshot: its header block, and what its trailer says."""

    transfer: int
    term: int
    chunks: int
    content_bytes: int
    file_bytes: int
    sha256: bytes
    header_block: bytes


class Accept(NamedTuple):
    """Go on with chunk `next`; `digest` is the SHA-256 of what is held before it, header included."""

    transfer: int
    next: int
    digest: bytes


class Chunk(NamedTuple):
    """Chunk `number` with its header, as in the file."""

    transfer: int
    number: int
    record: memoryview | bytes


class Credit(NamedTuple):
    """Everything before chunk `next` is held."""

    transfer: int
    next: int


class Finished(NamedTuple):
    """The transfer is over."""

    transfer: int
    outcome: Outcome


class Abort(NamedTuple):
    """The sender gives up."""

    transfer: int


class Restart(NamedTuple):
    """What the receiver holds is not the beginning of this snapshot: forget it."""

    transfer: int


SnapshotFrame: TypeAlias = Offer | Accept | Chunk | Credit | Finished | Abort | Restart


def encode_snapshot_frame(frame: SnapshotFrame) -> bytes:
    """Encode the body of one frame."""
    kind = _KINDS[type(frame)]
    head, rest = _KIND.pack(kind, frame.transfer), b""
    match frame:
        case Offer(_, term, chunks, content_bytes, file_bytes, sha256, block):
            rest = _OFFER.pack(term, chunks, content_bytes, file_bytes, sha256) + block
        case Accept(_, following, digest):
            rest = _ACCEPT.pack(following, digest)
        case Chunk(_, number, record):
            return b"".join((head, _CHUNK.pack(number), record))
        case Credit(_, following):
            rest = _CREDIT.pack(following)
        case Finished(_, outcome):
            rest = _FINISHED.pack(outcome)
    return head + rest


def decode_snapshot_frame(body: memoryview | bytes, *, chunk_bytes_max: int) -> SnapshotFrame:
    """Decode and check a body. Raises WireError `snapshot_short`, `snapshot_length`, `snapshot_kind`, `snapshot_field`.

    What a chunk and a header block hold is checked by whoever has the file.
    """
    if len(body) < _KIND.size:
        raise WireError("snapshot_short", f"{len(body)} bytes")
    kind, transfer = _KIND.unpack_from(body)
    rest = memoryview(body)[_KIND.size :]
    if not 0 < transfer <= NUMBER_MAX:
        raise WireError("snapshot_field", f"transfer {transfer}")
    if kind == SnapshotKind.CHUNK:
        if not _CHUNK.size < len(rest) <= _CHUNK.size + chunk_bytes_max:
            raise WireError("snapshot_length", f"{len(rest)} bytes of CHUNK")
        return Chunk(transfer, _bounded(_CHUNK.unpack_from(rest))[0], rest[_CHUNK.size :])
    length = _LENGTHS.get(kind)
    if length is None:
        raise WireError("snapshot_kind", str(kind))
    if len(rest) != length:
        raise WireError("snapshot_length", f"{len(rest)} bytes of {SnapshotKind(kind).name}")
    if kind == SnapshotKind.OFFER:
        *numbers, sha256 = _OFFER.unpack_from(rest)
        term, chunks, content_bytes, file_bytes = _bounded(tuple(numbers))
        return Offer(transfer, term, chunks, content_bytes, file_bytes, sha256, bytes(rest[_OFFER.size :]))
    if kind == SnapshotKind.ACCEPT:
        following, digest = _ACCEPT.unpack_from(rest)
        return Accept(transfer, _bounded((following,))[0], digest)
    if kind == SnapshotKind.CREDIT:
        return Credit(transfer, _bounded(_CREDIT.unpack_from(rest))[0])
    if kind == SnapshotKind.FINISHED:
        (outcome,) = _FINISHED.unpack_from(rest)
        if outcome not in _OUTCOMES:
            raise WireError("snapshot_field", f"outcome {outcome}")
        return Finished(transfer, Outcome(outcome))
    return Restart(transfer) if kind == SnapshotKind.RESTART else Abort(transfer)


_KINDS: dict[type, SnapshotKind] = {
    Offer: SnapshotKind.OFFER,
    Accept: SnapshotKind.ACCEPT,
    Chunk: SnapshotKind.CHUNK,
    Credit: SnapshotKind.CREDIT,
    Finished: SnapshotKind.FINISHED,
    Abort: SnapshotKind.ABORT,
    Restart: SnapshotKind.RESTART,
}
_LENGTHS: dict[int, int] = {
    SnapshotKind.OFFER: _OFFER.size + HEADER_BYTES,
    SnapshotKind.ACCEPT: _ACCEPT.size,
    SnapshotKind.CREDIT: _CREDIT.size,
    SnapshotKind.FINISHED: _FINISHED.size,
    SnapshotKind.ABORT: 0,
    SnapshotKind.RESTART: 0,
}
_OUTCOMES = frozenset(map(int, Outcome))


def _bounded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if any(number > NUMBER_MAX for number in numbers):
        raise WireError("snapshot_field", "a number of more than 63 bits")
    return numbers
