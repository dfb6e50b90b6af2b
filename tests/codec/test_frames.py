"""Client frames and replies: round trips, and what a hostile other side may send."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.codec import frames, replies
from raftactors.codec.frames import Admin, Commands, CommandsHeader, Hello, KeepAlive, Level, Queries, Welcome
from raftactors.codec.msgpack import pack, unpack
from raftactors.codec.replies import (
    BusyReply,
    DocumentReply,
    RejectedReply,
    ReplyStatus,
    ResultsReply,
    ResultStatus,
    RetryReply,
    TooLargeReply,
)
from raftactors.errors import InvariantViolation, WireError

U64 = st.integers(0, 2**64 - 1)
SEQUENCE = st.integers(1, 2**62)
PARTS = st.lists(st.binary(max_size=40), min_size=1, max_size=20)
MEMBERS = [(1, "a:1"), (2, "b:2")]
LIMITS = {"command_bytes_max": 131_072}
WELCOME = Welcome(1, 2, MEMBERS, LIMITS, "raftactors.app.kv:KeyValue", 99, (("lock", "timeout_ms"),))

DECODERS: dict[str, Callable[[bytes], object]] = {
    "split_request": frames.split_request,
    "hello": frames.decode_hello,
    "welcome": frames.decode_welcome,
    "commands": frames.decode_commands,
    "commands_header": frames.read_commands_header,
    "queries": frames.decode_queries,
    "open_session": frames.decode_open_session,
    "close_session": frames.decode_close_session,
    "keep_alive": frames.decode_keep_alive,
    "admin": frames.decode_admin,
    "replies": replies.decode_replies,
    "reply": replies.decode_reply,
}


def rest_of(body: bytes, request: int = 7) -> memoryview:
    number, rest = frames.split_request(body)
    assert number == request
    return rest


@given(session=U64, first_sequence=SEQUENCE, acked=U64, commands=PARTS)
def test_commands(session: int, first_sequence: int, acked: int, commands: list[bytes]) -> None:
    rest = rest_of(
        frames.encode_commands(7, session=session, first_sequence=first_sequence, acked=acked, commands=commands)
    )
    assert frames.decode_commands(rest) == Commands(session, first_sequence, acked, [memoryview(c) for c in commands])
    largest = max(map(len, commands))
    assert frames.read_commands_header(rest) == CommandsHeader(session, first_sequence, acked, len(commands), largest)


@given(queries=PARTS)
def test_queries(queries: list[bytes]) -> None:
    rest = rest_of(frames.encode_queries(7, level=Level.LINEARIZABLE, queries=queries))
    assert frames.decode_queries(rest) == Queries(Level.LINEARIZABLE, [memoryview(q) for q in queries])


def test_the_layout_is_the_documented_one() -> None:
    body = frames.encode_commands(7, session=5, first_sequence=9, acked=8, commands=[b"ab", b"c"])
    assert body == struct.pack("<QQQQIII", 7, 5, 9, 8, 2, 2, 1) + b"abc"
    assert frames.encode_queries(7, level=Level.LINEARIZABLE, queries=[b"q"]) == struct.pack("<QBII", 7, 1, 1, 1) + b"q"
    results = replies.encode_results(3, 2, 9, [(0, b"xy"), (6, b"")])
    assert results == struct.pack("<BQQQI BI BI", 0, 3, 2, 9, 2, 0, 2, 6, 0) + b"xy"
    assert replies.encode_replies([(7, b"body")]) == struct.pack("<IQI", 1, 7, 4) + b"body"


def test_the_small_frames() -> None:
    assert frames.decode_hello(rest_of(frames.encode_hello(7, "0.1.0"))) == Hello("0.1.0")
    assert frames.decode_welcome(frames.encode_welcome(WELCOME)) == WELCOME
    frames.decode_open_session(rest_of(frames.encode_open_session(7)))
    assert frames.decode_close_session(rest_of(frames.encode_close_session(7, 12))) == 12
    assert frames.decode_keep_alive(rest_of(frames.encode_keep_alive(7, session=12, acked=3))) == KeepAlive(12, 3)
    assert frames.decode_admin(rest_of(frames.encode_admin(7, "status"))) == Admin("status", [])
    assert frames.decode_admin(rest_of(frames.encode_admin(7, "transfer_leader", [3]))) == Admin("transfer_leader", [3])
    assert unpack(frames.encode_call("put", ["k", b"v"], {"x": 1})) == ["put", ["k", b"v"], {"x": 1}]


@given(
    index=U64,
    leader_id=U64,
    first_sequence=U64,
    results=st.lists(st.tuples(st.sampled_from(list(ResultStatus)).map(int), st.binary(max_size=20)), max_size=300),
)
def test_results(index: int, leader_id: int, first_sequence: int, results: list[tuple[int, bytes]]) -> None:
    body = replies.encode_results(index, leader_id, first_sequence, results)
    assert replies.decode_reply(body) == ResultsReply(index, leader_id, first_sequence, results)  # type: ignore[arg-type]


def test_the_other_replies() -> None:
    assert replies.decode_reply(replies.encode_busy(2, 50)) == BusyReply(0, 2, 50)
    assert replies.decode_reply(replies.encode_retry(3)) == RetryReply(0, 3)
    assert replies.decode_reply(replies.encode_rejected(2, "né", index=4)) == RejectedReply(4, 2, "né")
    assert replies.decode_reply(replies.encode_too_large(2, "big")) == TooLargeReply(0, 2, "big")
    assert replies.decode_reply(replies.encode_document(2, {"a": [1, None]}, index=9)) == DocumentReply(
        9, 2, {"a": [1, None]}
    )
    assert replies.decode_reply(replies.encode_rejected(2, "\ud800")) == RejectedReply(0, 2, "?")


@given(st.lists(st.tuples(U64, st.binary(max_size=30)), max_size=20))
def test_reply_frames(pairs: list[tuple[int, bytes]]) -> None:
    decoded = replies.decode_replies(replies.encode_replies(pairs))
    assert [(request, bytes(body)) for request, body in decoded] == pairs


COMMANDS = frames.encode_commands(7, session=5, first_sequence=9, acked=8, commands=[b"ab", b"c"])[8:]
QUERIES = frames.encode_queries(7, level=Level.LINEARIZABLE, queries=[b"q"])[8:]
RESULTS = replies.encode_results(3, 2, 9, [(0, b"xy"), (6, b"")])


@pytest.mark.parametrize(
    ("decoder", "data", "reason"),
    [
        ("split_request", b"1234567", "frame_truncated"),
        ("commands", COMMANDS[:27], "frame_truncated"),
        ("commands", COMMANDS[:35], "frame_truncated"),
        ("commands", COMMANDS[:-1], "frame_length"),
        ("commands", COMMANDS + b"x", "frame_length"),
        ("commands", struct.pack("<QQQI", 1, 1, 0, 0), "frame_count"),
        ("commands", struct.pack("<QQQI", 1, 1, 0, 4097) + bytes(4 * 4097), "frame_count"),
        ("commands", struct.pack("<QQQII", 1, 0, 0, 1, 0), "sequence_range"),
        ("commands", struct.pack("<QQQII", 1, 2**63, 0, 1, 0), "sequence_range"),
        ("queries", b"\x01", "frame_truncated"),
        ("queries", b"\x02" + QUERIES[1:], "level_unknown"),
        ("queries", QUERIES + b"x", "frame_length"),
        ("close_session", bytes(7), "frame_length"),
        ("keep_alive", bytes(17), "frame_length"),
        ("open_session", b"\x91\x01", "open_session_shape"),
        ("hello", b"\x91\x01", "hello_shape"),
        ("admin", b"\x92\x01\x90", "admin_shape"),
        ("welcome", b"\x90", "welcome_shape"),
        ("replies", b"\x01", "frame_truncated"),
        ("replies", struct.pack("<I", 2**32 - 1), "frame_truncated"),
        ("replies", struct.pack("<IQI", 1, 1, 5) + b"four", "frame_length"),
        ("reply", RESULTS[:16], "reply_truncated"),
        ("reply", RESULTS[:28], "reply_truncated"),
        ("reply", RESULTS[:32], "reply_truncated"),
        ("reply", RESULTS + b"x", "reply_length"),
        ("reply", RESULTS[:29] + b"\x63" + RESULTS[30:], "result_status_unknown"),
        ("reply", b"\x09" + bytes(16), "reply_status_unknown"),
        ("reply", bytes([ReplyStatus.BUSY]) + bytes(16), "reply_length"),
        ("reply", bytes([ReplyStatus.RETRY]) + bytes(17), "reply_length"),
        ("reply", bytes([ReplyStatus.DOCUMENT]) + bytes(16), "msgpack_malformed"),
    ],
)
def test_each_fault_has_its_reason(decoder: str, data: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        DECODERS[decoder](data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("place", range(7))
def test_each_field_of_a_welcome_is_checked(place: int) -> None:
    fields: list[object] = [*WELCOME]
    fields[place] = [[1.5]]
    with pytest.raises(WireError):
        frames.decode_welcome(pack(fields))


def test_the_writer_holds_to_the_limits() -> None:
    for count in (0, frames.FRAME_COMMANDS_MAX + 1):
        with pytest.raises(InvariantViolation):
            frames.encode_commands(1, session=1, first_sequence=1, acked=0, commands=[b"x"] * count)
        with pytest.raises(InvariantViolation):
            frames.encode_queries(1, level=Level.LINEARIZABLE, queries=[b"x"] * count)


VALID = [
    COMMANDS,
    QUERIES,
    RESULTS,
    frames.encode_welcome(WELCOME),
    frames.encode_admin(1, "status")[8:],
    replies.encode_replies([(7, b"body"), (8, b"")]),
    replies.encode_document(2, [1, {"a": b"b"}]),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data + draw(st.binary(max_size=3)))


@pytest.mark.parametrize("decoder", DECODERS)
@given(data=st.binary(max_size=80) | mutated())
def test_only_wire_errors_come_out(decoder: str, data: bytes) -> None:
    try:
        DECODERS[decoder](data)
    except WireError as error:
        assert error.reason
