"""The bodies of peer frames: what goes in comes out, and nothing else comes out."""

from __future__ import annotations

import contextlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.codec.entries import encode_entry
from raftactors.codec.msgpack import pack
from raftactors.codec.raft import (
    CONTEXT_BYTES_MAX,
    ENTRIES_MAX,
    MESSAGES_MAX,
    NUMBER_MAX,
    decode_message,
    decode_messages,
    encode_message,
    encode_messages,
    join_messages,
)
from raftactors.core.messages import CAMPAIGN_TRANSFER, Message, MessageType
from raftactors.core.types import Entry, EntryType, Snapshot
from raftactors.errors import InvariantViolation, WireError

APPEND = Message(
    MessageType.APP,
    to=1,
    sender=2,
    term=7,
    log_term=5,
    index=40,
    commit=39,
    entries=(Entry(5, 41, b"x"), Entry(7, 42), Entry(7, 43, b"", EntryType.CONF_CHANGE_V2)),
)
MESSAGES = [
    Message(MessageType.PROP, to=1, sender=2, entries=(Entry(0, 0, b"command"), Entry(0, 0, None))),
    Message(MessageType.PROP, to=1, sender=3, entries=(Entry(0, 0, b"handed on"),)),
    APPEND,
    APPEND._replace(entries=(), index=0, log_term=0),
    Message(MessageType.APP_RESP, to=1, sender=2, term=7, index=40),
    Message(MessageType.APP_RESP, to=1, sender=2, term=7, index=40, log_term=3, reject=True, reject_hint=12),
    Message(MessageType.VOTE, to=1, sender=2, term=8, index=43, log_term=7, context=CAMPAIGN_TRANSFER),
    Message(MessageType.VOTE_RESP, to=1, sender=2, term=8, reject=True),
    Message(MessageType.HEARTBEAT, to=1, sender=2, term=8, commit=43, context=b"read"),
    Message(MessageType.HEARTBEAT_RESP, to=1, sender=2, term=8, context=b"read"),
    Message(MessageType.TRANSFER_LEADER, to=1, sender=3, term=8),
    Message(MessageType.TIMEOUT_NOW, to=1, sender=2, term=8),
    Message(MessageType.READ_INDEX, to=1, sender=3, entries=(Entry(0, 0, b"read"),)),
    Message(MessageType.READ_INDEX, to=1, sender=2, context=b"read"),
    Message(MessageType.READ_INDEX_RESP, to=1, sender=2, term=8, index=43, entries=(Entry(0, 0, b"read"),)),
    Message(MessageType.PRE_VOTE, to=1, sender=2, term=NUMBER_MAX, index=NUMBER_MAX, log_term=7),
    Message(MessageType.PRE_VOTE_RESP, to=1, sender=2, term=8),
]
LOCAL_KINDS = [
    MessageType.HUP,
    MessageType.BEAT,
    MessageType.SNAP,
    MessageType.UNREACHABLE,
    MessageType.SNAP_STATUS,
    MessageType.CHECK_QUORUM,
    MessageType.STORAGE_APPEND,
    MessageType.STORAGE_APPEND_RESP,
    MessageType.STORAGE_APPLY,
    MessageType.STORAGE_APPLY_RESP,
    MessageType.FORGET_LEADER,
]


def decode(body: bytes, kind: int, **limits: int) -> Message:
    return decode_message(memoryview(body), kind=kind, to=1, sender=2, **limits)


def append_body(head: list[object], *entries: Entry) -> bytes:
    packed, encoded = pack(head), [encode_entry(entry) for entry in entries]
    table = struct.pack(f"<{len(encoded)}I", *map(len, encoded))
    return struct.pack("<HI", len(packed), len(encoded)) + packed + table + b"".join(encoded)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type.name.lower())
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    decoded = decode(encode_message(message), message.type)
    assert decoded == message
    assert type(decoded.type) is MessageType


def test_every_kind_either_travels_or_is_refused_both_ways() -> None:
    assert {message.type for message in MESSAGES} | set(LOCAL_KINDS) == set(MessageType)
    for kind in LOCAL_KINDS:
        with pytest.raises(WireError, match=r"^kind"):
            encode_message(Message(kind, to=1, sender=2, term=1))
        with pytest.raises(WireError, match=r"^kind"):
            decode(pack([1]), kind)


def test_a_frame_holds_several_messages_in_order() -> None:
    mixed = [message._replace(sender=2) for message in MESSAGES]
    assert decode_messages(encode_messages(mixed), to=1, sender=2) == mixed
    assert decode_messages(memoryview(encode_messages([])), to=1, sender=2) == []


def test_the_envelope_names_the_sender_unless_the_message_was_handed_on() -> None:
    claimed = Message(MessageType.HEARTBEAT, to=9, sender=9, term=8)
    assert decode(encode_message(claimed), claimed.type)[:3] == (MessageType.HEARTBEAT, 1, 2)
    handed_on = Message(MessageType.TRANSFER_LEADER, to=1, sender=3, term=8)
    assert decode(encode_message(handed_on), handed_on.type).sender == 3


def test_a_field_without_a_place_on_the_wire_stops_the_program() -> None:
    with pytest.raises(InvariantViolation, match="HEARTBEAT"):
        encode_message(Message(MessageType.HEARTBEAT, to=1, sender=2, term=1, index=4))
    with pytest.raises(InvariantViolation, match="APP"):
        encode_message(APPEND._replace(snapshot=Snapshot()))


def test_the_sender_keeps_the_limits_that_the_receiver_checks() -> None:
    with pytest.raises(WireError, match="context_oversize"):
        encode_message(Message(MessageType.HEARTBEAT, to=1, term=1, context=bytes(CONTEXT_BYTES_MAX + 1)))
    with pytest.raises(WireError, match="entries_many"):
        encode_message(Message(MessageType.PROP, to=1, sender=2, entries=(Entry(0, 0),) * (ENTRIES_MAX + 1)))


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (MessageType.HEARTBEAT, [8, 43]),
        (MessageType.HEARTBEAT, [8, 43, b"", 0]),
        (MessageType.HEARTBEAT, {"term": 8}),
        (MessageType.HEARTBEAT, [-1, 43, b""]),
        (MessageType.HEARTBEAT, [True, 43, b""]),
        (MessageType.HEARTBEAT, [8.0, 43, b""]),
        (MessageType.HEARTBEAT, [2**63, 43, b""]),
        (MessageType.HEARTBEAT, [0, 43, b""]),
        (MessageType.HEARTBEAT, [8, None, b""]),
        (MessageType.HEARTBEAT, [8, 43, "text"]),
        (MessageType.HEARTBEAT, [8, 43, bytes(CONTEXT_BYTES_MAX + 1)]),
        (MessageType.VOTE_RESP, [8, 1]),
        (MessageType.VOTE_RESP, [8, 0]),
        (MessageType.TRANSFER_LEADER, [0, 8]),
    ],
)
def test_a_scalar_of_the_wrong_type_or_range_is_refused(kind: MessageType, head: object) -> None:
    with pytest.raises(WireError) as caught:
        decode(pack(head), kind)
    assert caught.value.reason == "schema"


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(5, 42)],
        [Entry(5, 40)],
        [Entry(5, 41), Entry(5, 43)],
        [Entry(5, 41), Entry(5, 41)],
        [Entry(4, 41)],
        [Entry(6, 41), Entry(5, 42)],
        [Entry(8, 41)],
    ],
)
def test_entries_that_cannot_follow_are_refused(entries: list[Entry]) -> None:
    assert decode(append_body([7, 5, 40, 39], Entry(5, 41), Entry(7, 42)), MessageType.APP).entries[1] == Entry(7, 42)
    with pytest.raises(WireError, match="entry_order"):
        decode(append_body([7, 5, 40, 39], *entries), MessageType.APP)


def test_entries_that_are_not_in_the_log_yet_are_not_numbered() -> None:
    with pytest.raises(WireError, match="entry_order"):
        decode(append_body([2], Entry(1, 1, b"")), MessageType.PROP)


def test_the_first_entry_of_the_log_has_a_term() -> None:
    with pytest.raises(WireError, match="entry_order"):
        decode(append_body([7, 0, 0, 0], Entry(0, 1)), MessageType.APP)


def test_lengths_that_lie_are_refused() -> None:
    good = encode_message(APPEND)
    for size in range(len(good)):
        with pytest.raises(WireError):
            decode(good[:size], MessageType.APP)
    with pytest.raises(WireError, match="entries_trailing"):
        decode(good + b"\0", MessageType.APP)
    with pytest.raises(WireError, match="entries_truncated"):
        decode(struct.pack("<HI", 0, ENTRIES_MAX), MessageType.APP)
    with pytest.raises(WireError, match="entries_many"):
        decode(good, MessageType.APP, entries_max=2)
    head = pack([7, 5, 40, 39])
    with pytest.raises(WireError, match="entry_length"):
        decode(struct.pack("<HI", len(head), 1) + head + struct.pack("<I", 23) + encode_entry(Entry(5, 41)), 3)


def test_a_table_of_messages_that_lies_is_refused() -> None:
    good = encode_messages([APPEND, APPEND])
    for size in range(len(good)):
        with pytest.raises(WireError):
            decode_messages(good[:size], to=1, sender=2)
    with pytest.raises(WireError, match="messages_trailing"):
        decode_messages(good + b"\0", to=1, sender=2)
    with pytest.raises(WireError, match="messages_many"):
        decode_messages(join_messages([(14, b"")] * (MESSAGES_MAX + 1)), to=1, sender=2)
    with pytest.raises(WireError, match="messages_truncated"):
        decode_messages(struct.pack("<I", MESSAGES_MAX), to=1, sender=2)


@given(st.sampled_from(sorted(MessageType)), st.binary(max_size=200))
def test_noise_is_refused_with_a_wire_error(kind: int, body: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(body, kind)
    with contextlib.suppress(WireError):
        decode_messages(body, to=1, sender=2)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@given(st.sampled_from(sorted(MessageType)), st.lists(VALUES, max_size=6), st.booleans())
def test_well_formed_nonsense_is_refused_or_fits_the_schema(kind: int, head: list[object], entries: bool) -> None:
    body = append_body(head) if entries else pack(head)
    try:
        message = decode(body, kind)
    except WireError:
        return
    assert all(type(number) is int and 0 <= number <= NUMBER_MAX for number in message[2:6])
    assert type(message.reject) is bool
    assert encode_message(message) == body


@given(st.sampled_from(MESSAGES), st.randoms(use_true_random=False))
def test_flipped_bytes_give_a_wire_error_or_a_message_that_fits(message: Message, rng: random.Random) -> None:
    body = bytearray(encode_messages([message]))
    for _ in range(rng.randrange(1, 4)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    try:
        (decoded,) = decode_messages(bytes(body), to=1, sender=2)
    except WireError:
        return
    except ValueError as error:
        pytest.fail(f"{error!r} came out of {bytes(body)!r}")
    assert decode_messages(encode_messages([decoded]), to=1, sender=2) == [decoded]
