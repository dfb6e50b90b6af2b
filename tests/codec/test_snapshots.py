"""Frames of a snapshot transfer: they come back as they were sent, and bounds are kept."""

from __future__ import annotations

import pytest

from raftactors.codec import snapshots as codec
from raftactors.codec.snapshots import (
    Abort,
    Accept,
    Chunk,
    Credit,
    Finished,
    Offer,
    Outcome,
    Restart,
    SnapshotFrame,
    SnapshotKind,
    decode_snapshot_frame,
    encode_snapshot_frame,
)
from raftactors.errors import WireError

FRAMES: list[SnapshotFrame] = [
    Offer(1, 2, 3, 600, 5_000, b"d" * 32, b"h" * 4096),
    Accept(7, 2**63 - 1, b"e" * 32),
    Chunk(7, 3, b"record"),
    Credit(7, 4),
    Finished(7, Outcome.TOO_LARGE),
    Abort(7),
    Restart(7),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_frames_come_back_as_they_were_sent(frame: SnapshotFrame) -> None:
    body = encode_snapshot_frame(frame)
    assert decode_snapshot_frame(body, chunk_bytes_max=100) == frame
    for length in range(len(body)):
        if not isinstance(frame, Chunk) or length <= codec.CHUNK_OVERHEAD_BYTES:
            with pytest.raises(WireError):
                decode_snapshot_frame(body[:length], chunk_bytes_max=100)
    if not isinstance(frame, Chunk):
        with pytest.raises(WireError, match="snapshot_length"):
            decode_snapshot_frame(body + b"\0", chunk_bytes_max=100)


def test_frames_out_of_bounds_are_refused() -> None:
    def refused(body: bytes) -> str:
        with pytest.raises(WireError) as caught:
            decode_snapshot_frame(body, chunk_bytes_max=100)
        return caught.value.reason

    assert refused(encode_snapshot_frame(Credit(0, 4))) == "snapshot_field"
    assert refused(encode_snapshot_frame(Credit(2**63, 4))) == "snapshot_field"
    assert refused(encode_snapshot_frame(Credit(1, 2**63))) == "snapshot_field"
    assert refused(encode_snapshot_frame(Chunk(1, 2**63, b"x"))) == "snapshot_field"
    assert refused(encode_snapshot_frame(Chunk(1, 1, b"x" * 101))) == "snapshot_length"
    assert refused(encode_snapshot_frame(FRAMES[4])[:-1] + b"\x77") == "snapshot_field"
    assert refused(bytes((len(SnapshotKind) + 1,)) + encode_snapshot_frame(Abort(7))[1:]) == "snapshot_kind"
