"""Frames that are not for us, or not whole, never get past the gate, and each is counted by its own reason."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.errors import WireError
from raftactors.transport.envelope import (
    CLIENT_MAGIC,
    ENVELOPE_BYTES,
    PEER_MAGIC,
    ClientGate,
    Envelope,
    EnvelopeGate,
    NodeGate,
    PeerKind,
    decode_envelope,
    encode_envelope,
)

GOOD = Envelope(kind=PeerKind.RAFT, cluster_id=77, to=1, sender=2, incarnation=5)
BODY = b"a body"
FRAME = encode_envelope(PEER_MAGIC, GOOD, BODY)
BODY_BYTES_MAX = 100


def gate() -> EnvelopeGate:
    made = EnvelopeGate(cluster_id=77, node_id=1, peers=[2, 3], kinds=set(PeerKind), body_bytes_max=BODY_BYTES_MAX)
    made.confirm(2, 5)
    return made


def patched(offset: int, *octets: int) -> bytes:
    return FRAME[:offset] + bytes(octets) + FRAME[offset + len(octets) :]


def enveloped(body: bytes = BODY, **changes: int) -> bytes:
    return encode_envelope(PEER_MAGIC, GOOD._replace(**changes), body)


MUTATED = {
    "short": FRAME[: ENVELOPE_BYTES - 1],
    "magic": encode_envelope(CLIENT_MAGIC, GOOD, BODY),
    "version": patched(4, 2),
    "flags": patched(6, 1),
    "cluster_id": enveloped(cluster_id=78),
    "to": enveloped(to=3),
    "sender": enveloped(sender=9),
    "incarnation_stale": enveloped(incarnation=4),
    "hello_missing": enveloped(incarnation=6),
    "body_length": FRAME + b"\0",
    "body_oversize": enveloped(bytes(BODY_BYTES_MAX + 1)),
    "checksum": FRAME[:-1] + b"\0",
    "kind": enveloped(kind=9),
}


def test_a_frame_comes_out_as_it_went_in_and_is_counted_nowhere() -> None:
    made = gate()
    admitted = made.admit(FRAME)
    assert admitted is not None
    assert admitted[0] == GOOD
    assert bytes(admitted[1]) == BODY
    assert not made.drops
    assert len(FRAME) == ENVELOPE_BYTES + len(BODY) == 48 + len(BODY)


def test_the_layout_is_the_documented_one() -> None:
    assert FRAME[:8] == b"RAFP\x01\x03\x00\x00"
    assert FRAME[8:16] == (77).to_bytes(8, "little")
    assert FRAME[16:40] == b"".join(number.to_bytes(8, "little") for number in (1, 2, 5))
    assert FRAME[40:44] == len(BODY).to_bytes(4, "little")


@pytest.mark.parametrize("reason", MUTATED)
def test_every_mutated_field_is_dropped_with_its_own_reason(reason: str) -> None:
    made = gate()
    assert made.admit(MUTATED[reason]) is None
    assert made.drops == Counter({reason: 1})
    with pytest.raises(WireError) as caught:
        made.check(MUTATED[reason])
    assert caught.value.reason == reason
    assert made.drops.total() == 1


def test_the_first_failing_check_in_order_gives_the_reason() -> None:
    everything_wrong = bytearray(encode_envelope(b"NONE", Envelope(9, 78, 3, 9, 4), bytes(BODY_BYTES_MAX + 1)) + b"\0")
    repairs = [
        ("magic", slice(0, 4), PEER_MAGIC),
        ("version", slice(4, 5), b"\1"),
        ("cluster_id", slice(8, 16), (77).to_bytes(8, "little")),
        ("to", slice(16, 24), (1).to_bytes(8, "little")),
        ("sender", slice(24, 32), (2).to_bytes(8, "little")),
        ("incarnation_stale", slice(32, 40), (5).to_bytes(8, "little")),
        ("body_length", slice(40, 44), (BODY_BYTES_MAX + 2).to_bytes(4, "little")),
        ("body_oversize", slice(ENVELOPE_BYTES + BODY_BYTES_MAX, None), b""),
        ("body_length", slice(40, 44), BODY_BYTES_MAX.to_bytes(4, "little")),
        ("checksum", slice(0, 0), b""),
    ]
    everything_wrong[4] = 2
    made = gate()
    for reason, place, repair in repairs:
        with pytest.raises(WireError) as caught:
            made.check(bytes(everything_wrong))
        assert caught.value.reason == reason
        everything_wrong[place] = repair


@given(st.integers(0, len(FRAME) - 1), st.integers(1, 255))
def test_no_single_damaged_octet_passes(offset: int, damage: int) -> None:
    assert gate().admit(patched(offset, FRAME[offset] ^ damage)) is None


@given(st.binary(max_size=120), st.integers(0, ENVELOPE_BYTES))
def test_noise_is_refused_with_a_wire_error(noise: bytes, kept: int) -> None:
    with pytest.raises(WireError):
        gate().check(FRAME[:kept] + noise[: max(0, len(FRAME) - kept - 1)])


def test_many_mutated_frames_reach_nobody_and_all_are_counted() -> None:
    rng = random.Random(20_260)
    made = gate()
    frames = list(MUTATED.values())
    for _ in range(20_000):
        assert made.admit(rng.choice(frames)) is None
    assert made.drops.total() == 20_000
    assert set(made.drops) == set(MUTATED)


def test_only_greetings_pass_before_the_hello_and_a_restart_silences_the_older_process() -> None:
    made = gate()
    assert made.admit(enveloped(sender=3)) is None
    assert made.take_ungreeted() == {3}
    assert made.take_ungreeted() == set()
    for kind in (PeerKind.HELLO, PeerKind.HELLO_WANTED):
        assert made.admit(enveloped(sender=3, kind=kind)) is not None
    made.confirm(2, 6)
    assert made.admit(enveloped(kind=PeerKind.HELLO)) is not None, "it proves nothing yet, so it is looked at"
    with pytest.raises(WireError, match="incarnation_stale"):
        made.confirm(2, 5)
    assert made.admit(FRAME) is None
    assert made.drops["incarnation_stale"] == 1
    assert made.admit(enveloped(incarnation=6)) is not None


def test_a_client_may_be_new_but_is_nobody() -> None:
    made = NodeGate(cluster_id=77, node_id=1, greeting_kind=1, kinds={1, 3}, body_bytes_max=100)
    client = Envelope(kind=3, cluster_id=77, to=0, sender=0, incarnation=0)

    def admits(**changes: int) -> bool:
        return made.admit(encode_envelope(CLIENT_MAGIC, client._replace(**changes), BODY)) is not None

    assert admits()
    assert admits(to=1)
    assert admits(kind=1, cluster_id=0)
    assert not made.drops
    refused: list[dict[str, int]] = [
        {"cluster_id": 0},
        {"cluster_id": 78, "kind": 1},
        {"to": 2},
        {"sender": 2},
        {"incarnation": 1},
        {"kind": 2},
    ]
    assert not any(admits(**changes) for changes in refused)
    assert made.drops == {"cluster_id": 2, "to": 1, "sender": 1, "incarnation": 1, "kind": 1}


def test_a_client_listens_to_the_cluster_that_welcomed_it() -> None:
    made = ClientGate(cluster_id=0, welcome_kind=2, kinds={2, 9}, body_bytes_max=100)
    node = Envelope(kind=9, cluster_id=77, to=0, sender=1, incarnation=4)

    def admits(**changes: int) -> bool:
        admitted = made.admit(encode_envelope(CLIENT_MAGIC, node._replace(**changes), BODY))
        if admitted is not None and admitted[0].kind == 2:
            made.welcome(admitted[0])
        return admitted is not None

    assert not admits(), "nothing counts before the welcome"
    assert not admits(kind=2, cluster_id=0)
    assert admits(kind=2)
    assert made.cluster_id == 77
    assert admits()
    assert not admits(cluster_id=78)
    assert not admits(kind=2, cluster_id=78)
    assert not admits(to=3)
    assert not admits(sender=0)
    assert not admits(incarnation=5), "a restarted node welcomes first"
    assert admits(kind=2, incarnation=5)
    assert admits(incarnation=5)
    assert not admits(incarnation=4)
    assert made.drops == {"welcome_missing": 2, "cluster_id": 3, "to": 1, "sender": 1, "incarnation_stale": 1}


def test_without_a_gate_a_frame_is_checked_for_being_whole() -> None:
    assert decode_envelope(FRAME, magic=PEER_MAGIC, body_bytes_max=6)[0] == GOOD
    with pytest.raises(WireError, match="body_oversize"):
        decode_envelope(FRAME, magic=PEER_MAGIC, body_bytes_max=5)
