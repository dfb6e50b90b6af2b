"""What a node answers: the REPLIES frame and the reply bodies in it.

REPLIES, little endian: count u32; per reply request u64, length u32; then the reply bodies joined. A reply body starts
with status u8, log index u64 and leader id u64 (0: unknown); what follows depends on the status and stands beside the
functions. The decoders raise WireError with a reason for anything malformed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from itertools import chain
from typing import NamedTuple, TypeAlias

from raftactors.codec.msgpack import pack, unpack
from raftactors.errors import WireError

_COUNT = struct.Struct("<I")
_REPLY = struct.Struct("<QI")
_HEAD = struct.Struct("<BQQ")
_RESULTS = struct.Struct("<BQQQI")
_RESULT = struct.Struct("<BI")
_BUSY = struct.Struct("<BQQI")
_RETRY_AFTER = struct.Struct("<I")
_TABLES = tuple(struct.Struct("<" + "BI" * count) for count in range(257))

RESULTS_OVERHEAD_BYTES = _RESULTS.size + _RESULT.size
"""What stands around a result that is alone in its reply."""

DOCUMENT_BYTES_MAX = 1024 * 1024
"""How long a document may be; it comes from a node, and an operator's may list much."""


class ReplyStatus(IntEnum):
    """How a whole frame ended."""

    RESULTS = 0
    BUSY = 1
    RETRY = 2
    REJECTED = 3
    TOO_LARGE = 4
    DOCUMENT = 5


class ResultStatus(IntEnum):
    """How one command or query ended. Everything except OK and APPLICATION_ERROR means: not executed now.

    ALREADY_ACKED was executed before and its result is forgotten, because the client said that it has it. OUT_OF_ORDER
    and WINDOW_FULL may be sent again under the same sequence, the latter once results were acknowledged.
    """

    OK = 0
    APPLICATION_ERROR = 1
    UNKNOWN_METHOD = 2
    ARGUMENTS = 3
    SESSION_EXPIRED = 4
    OUT_OF_ORDER = 5
    ALREADY_ACKED = 6
    WINDOW_FULL = 7


_STATUSES = frozenset(map(int, ResultStatus))


class ResultsReply(NamedTuple):
    """The results of a COMMANDS or QUERIES frame, in its order.

    Each is (result status, content): OK carries msgpack, APPLICATION_ERROR msgpack [kind, text], the others utf-8 text.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    leader_id: int
    first_sequence: int
    results: list[tuple[int, memoryview]]


class BusyReply(NamedTuple):
    """A limit is reached and nothing happened; send it again after `retry_after_ms`."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    leader_id: int
    retry_after_ms: int


class RetryReply(NamedTuple):
    """The leader is unknown or changed and the outcome is open; a session makes sending it again safe."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    leader_id: int


class RejectedReply(NamedTuple):
    """The frame was refused: it never happened."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    leader_id: int
    text: str


class TooLargeReply(NamedTuple):
    """A command of the frame, or the frame, is larger than its limit: nothing happened."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    leader_id: int
    text: str


class DocumentReply(NamedTuple):
    """Any other answer: a session id, None for a closed session, an operator's document."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    leader_id: int
    document: object


Reply: TypeAlias = ResultsReply | BusyReply | RetryReply | RejectedReply | TooLargeReply | DocumentReply


def encode_replies(replies: Sequence[tuple[int, bytes]]) -> bytes:
    """Join (request, reply body) pairs into the body of a REPLIES frame."""
    parts = [_COUNT.pack(len(replies))]
    parts += [_REPLY.pack(request, len(body)) for request, body in replies]
    parts += [body for _, body in replies]
    return b"".join(parts)


def decode_replies(body: bytes | memoryview) -> list[tuple[int, memoryview]]:
    """Cut a REPLIES frame into (request, reply body) pairs; the bodies are views for `decode_reply`."""
    view = memoryview(body)
    if len(view) < _COUNT.size:
        raise WireError("frame_truncated", f"{len(view)} bytes for a count of {_COUNT.size}")
    start = _COUNT.size + _COUNT.unpack_from(view)[0] * _REPLY.size
    if len(view) < start:
        raise WireError("frame_truncated", f"{len(view)} bytes for a reply table that ends at {start}")
    replies: list[tuple[int, memoryview]] = []
    for request, length in _REPLY.iter_unpack(view[_COUNT.size : start]):
        replies.append((request, view[start : start + length]))
        start += length
    if start != len(view):
        raise WireError("frame_length", f"the table promises {start} bytes, {len(view)} came")
    return replies


def encode_results(
    index: int, leader_id: int, first_sequence: int, results: Sequence[tuple[int, bytes | memoryview]]
) -> bytes:
    """RESULTS: first sequence u64, count u32, per result status u8 and length u32, then the contents joined."""
    count = len(results)
    contents = [content for _, content in results]
    if count < len(_TABLES):
        table = _TABLES[count].pack(*chain.from_iterable([(status, len(content)) for status, content in results]))
    else:
        table = b"".join([_RESULT.pack(status, len(content)) for status, content in results])
    header = _RESULTS.pack(ReplyStatus.RESULTS, index, leader_id, first_sequence, count)
    return b"".join((header, table, *contents))


def results_head_bytes(count: int) -> int:
    """What `encode_results` writes in front of the contents of `count` results."""
    return _RESULTS.size + count * _RESULT.size


def encode_busy(leader_id: int, retry_after_ms: int, *, index: int = 0) -> bytes:
    """BUSY: retry after u32 in milliseconds."""
    return _BUSY.pack(ReplyStatus.BUSY, index, leader_id, retry_after_ms)


def encode_retry(leader_id: int, *, index: int = 0) -> bytes:
    """RETRY: nothing behind the header."""
    return _HEAD.pack(ReplyStatus.RETRY, index, leader_id)


def encode_rejected(leader_id: int, text: str, *, index: int = 0) -> bytes:
    """REJECTED: utf-8 text."""
    return _HEAD.pack(ReplyStatus.REJECTED, index, leader_id) + text.encode(errors="replace")


def encode_too_large(leader_id: int, text: str, *, index: int = 0) -> bytes:
    """TOO_LARGE: utf-8 text."""
    return _HEAD.pack(ReplyStatus.TOO_LARGE, index, leader_id) + text.encode(errors="replace")


def encode_document(leader_id: int, document: object, *, index: int = 0) -> bytes:
    """DOCUMENT: msgpack."""
    return _HEAD.pack(ReplyStatus.DOCUMENT, index, leader_id) + pack(document)


def decode_reply(body: bytes | memoryview) -> Reply:
    """Read one reply body; the contents of results are views into it."""
    view = memoryview(body)
    if len(view) < _HEAD.size:
        raise WireError("reply_truncated", f"{len(view)} bytes for a header of {_HEAD.size}")
    status, index, leader_id = _HEAD.unpack_from(view)
    rest = view[_HEAD.size :]
    match status:
        case ReplyStatus.RESULTS:
            return _decode_results(view)
        case ReplyStatus.BUSY:
            if len(rest) != _RETRY_AFTER.size:
                raise WireError("reply_length", f"{len(rest)} bytes for a retry time of {_RETRY_AFTER.size}")
            return BusyReply(index, leader_id, _RETRY_AFTER.unpack(rest)[0])
        case ReplyStatus.RETRY:
            if len(rest):
                raise WireError("reply_length", f"{len(rest)} bytes behind a RETRY")
            return RetryReply(index, leader_id)
        case ReplyStatus.REJECTED:
            return RejectedReply(index, leader_id, _text(rest))
        case ReplyStatus.TOO_LARGE:
            return TooLargeReply(index, leader_id, _text(rest))
        case ReplyStatus.DOCUMENT:
            return DocumentReply(index, leader_id, unpack(rest, bytes_max=DOCUMENT_BYTES_MAX))
    raise WireError("reply_status_unknown", f"reply status {status}")


def _decode_results(view: memoryview) -> ResultsReply:
    if len(view) < _RESULTS.size:
        raise WireError("reply_truncated", f"{len(view)} bytes for a RESULTS header of {_RESULTS.size}")
    _, index, leader_id, first_sequence, count = _RESULTS.unpack_from(view)
    start = _RESULTS.size + count * _RESULT.size
    if len(view) < start:
        raise WireError("reply_truncated", f"{len(view)} bytes for a result table that ends at {start}")
    results: list[tuple[int, memoryview]] = []
    for status, length in _RESULT.iter_unpack(view[_RESULTS.size : start]):
        end = start + length
        results.append((status, view[start:end]))
        start = end
    if start != len(view):
        raise WireError("reply_length", f"the table promises {start} bytes, {len(view)} came")
    unknown = {status for status, _ in results} - _STATUSES
    if unknown:
        raise WireError("result_status_unknown", f"result status {min(unknown)}")
    return ResultsReply(index, leader_id, first_sequence, results)


def _text(rest: memoryview) -> str:
    return str(rest, "utf-8", "replace")
