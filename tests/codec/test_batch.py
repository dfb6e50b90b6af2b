"""Command batches: round trips, the leader's stamp, and what a hostile peer may send."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.codec.batch import (
    BATCH_FRAME_BYTES,
    BATCH_FRAMES_MAX,
    BATCH_HEADER_BYTES,
    decode_batch,
    encode_batch,
    stamp_batch,
    validate_batch,
)
from raftactors.codec.frames import FrameKind
from raftactors.errors import InvariantViolation, WireError

U64 = st.integers(0, 2**64 - 1)
FRAMES = st.lists(
    st.tuples(U64, st.builds(lambda kind, body: bytes([kind]) + body, st.sampled_from([3, 4, 5, 6]), st.binary())),
    min_size=1,
    max_size=20,
)
GOOD = encode_batch([(7, b"\x03abc"), (8, b"\x06")], origin_node=2, origin_incarnation=5, timestamp_ms=99)


@given(frames=FRAMES, origin_node=U64, origin_incarnation=U64, timestamp_ms=U64, later_ms=U64)
def test_a_batch_comes_back_as_it_went_and_a_stamp_changes_only_the_time(
    frames: list[tuple[int, bytes]], origin_node: int, origin_incarnation: int, timestamp_ms: int, later_ms: int
) -> None:
    payload = encode_batch(
        frames, origin_node=origin_node, origin_incarnation=origin_incarnation, timestamp_ms=timestamp_ms
    )
    validate_batch(payload)
    batch = decode_batch(payload)
    assert batch[:3] == (origin_node, origin_incarnation, timestamp_ms)
    assert [(pending, bytes([kind]) + body) for pending, kind, body in batch.frames] == frames
    assert len(payload) == BATCH_HEADER_BYTES + sum(BATCH_FRAME_BYTES + len(frame) for _, frame in frames)

    assert decode_batch(stamp_batch(payload, later_ms)) == batch._replace(timestamp_ms=later_ms)


def test_the_layout_is_the_documented_one() -> None:
    assert struct.pack("<BBHIQQQ QIQI", 1, 1, 0, 2, 2, 5, 99, 7, 4, 8, 1) + b"\x03abc\x06" == GOOD


def altered(offset: int, value: int) -> bytes:
    data = bytearray(GOOD)
    data[offset] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "batch_truncated"),
        (GOOD[:31], "batch_truncated"),
        (GOOD[:40], "batch_truncated"),
        (altered(0, 2), "batch_kind_unknown"),
        (altered(1, 2), "batch_version_unknown"),
        (altered(2, 1), "batch_flags_unknown"),
        (altered(4, 0), "batch_count"),
        (altered(7, 0xFF), "batch_count"),
        (altered(4, 200), "batch_truncated"),
        (altered(40, 0), "batch_frame_empty"),
        (altered(40, 5), "batch_length"),
        (GOOD[:-1], "batch_length"),
        (GOOD + b"\x00", "batch_length"),
    ],
)
def test_each_fault_has_its_reason(data: bytes, reason: str) -> None:
    for read in (decode_batch, validate_batch):
        with pytest.raises(WireError) as caught:
            read(data)
        assert caught.value.reason == reason


@pytest.mark.parametrize("kind", [0, FrameKind.HELLO, FrameKind.QUERIES, FrameKind.REPLIES, 200])
def test_only_logged_kinds_may_be_proposed(kind: int) -> None:
    payload = encode_batch([(1, bytes([kind]))], origin_node=1, origin_incarnation=1, timestamp_ms=1)
    with pytest.raises(WireError) as caught:
        validate_batch(payload)
    assert caught.value.reason == "batch_frame_kind"


def test_the_writer_holds_to_the_limits() -> None:
    for frames in ([], [(1, b"\x03")] * (BATCH_FRAMES_MAX + 1)):
        with pytest.raises(InvariantViolation):
            encode_batch(frames, origin_node=1, origin_incarnation=1, timestamp_ms=1)
    with pytest.raises(InvariantViolation):
        stamp_batch(b"short", 1)


@given(st.binary(max_size=200) | st.builds(lambda tail: GOOD[:8] + tail, st.binary(max_size=200)))
def test_only_wire_errors_come_out(data: bytes) -> None:
    for read in (decode_batch, validate_batch):
        try:
            read(data)
        except WireError as error:
            assert error.reason.startswith("batch_")
