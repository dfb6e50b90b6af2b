"""Membership changes as payloads."""

from __future__ import annotations

import random

import pytest

from raftactors.core.confchange_wire import conf_change_entry, decode_conf_change, encode_conf_change
from raftactors.core.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
)
from raftactors.errors import WireError


@pytest.mark.parametrize(
    ("change", "encoded"),
    [
        (ConfChange(ConfChangeType.ADD_NODE, 4), "080010001804"),
        (ConfChange(ConfChangeType.ADD_LEARNER, 300, b"ab", 5), "0805100318ac0222026162"),
        (ConfChangeV2(), "0800"),
        (ConfChangeV2(context=b"c"), "08001a0163"),
        (
            ConfChangeV2(
                (ConfChangeSingle(ConfChangeType.ADD_NODE, 3), ConfChangeSingle(ConfChangeType.REMOVE_NODE, 1)),
                ConfChangeTransition.JOINT_EXPLICIT,
            ),
            "0802120408001003120408011001",
        ),
    ],
)
def test_layout(change: ConfChange | ConfChangeV2, encoded: str) -> None:
    assert encode_conf_change(change).hex() == encoded
    assert decode_conf_change(conf_change_entry(change)) == change


def test_absent_payloads_are_the_empty_change() -> None:
    assert decode_conf_change(Entry(1, 1, None, EntryType.CONF_CHANGE_V2)) == ConfChangeV2()
    assert decode_conf_change(Entry(1, 1, None, EntryType.CONF_CHANGE)) == ConfChange(ConfChangeType.ADD_NODE, 0)


@pytest.mark.parametrize("seed", range(20))
def test_round_trip(seed: int) -> None:
    rng = random.Random(seed)
    kinds, transitions = tuple(ConfChangeType), tuple(ConfChangeTransition)
    context = rng.randbytes(rng.randrange(200))
    steps = tuple(ConfChangeSingle(rng.choice(kinds), rng.randrange(2**64)) for _ in range(rng.randrange(5)))
    for change in (
        ConfChange(rng.choice(kinds), rng.randrange(2**64), context, rng.randrange(2**64)),
        ConfChangeV2(steps, rng.choice(transitions), context),
    ):
        assert decode_conf_change(conf_change_entry(change)) == change


@pytest.mark.parametrize(
    "payload",
    [
        "08",
        "0880",
        "08ffffffffffffffffffff01",
        "08ffffffffffffffffff02",
        "0804",
        "1205",
        "120508001003",
        "1203080103ff",
        "2800",
        "0900",
        "0a00",
        "120418001003",
        "12040a021003",
        "1206080910031000",
    ],
)
def test_malformed_version_2(payload: str) -> None:
    with pytest.raises(WireError, match="conf_change_malformed"):
        decode_conf_change(Entry(1, 7, bytes.fromhex(payload), EntryType.CONF_CHANGE_V2))


@pytest.mark.parametrize("payload", ["1009", "2000", "2205ab", "0a0100"])
def test_malformed_version_1(payload: str) -> None:
    with pytest.raises(WireError, match="conf_change_malformed"):
        decode_conf_change(Entry(1, 7, bytes.fromhex(payload), EntryType.CONF_CHANGE))


def test_a_command_is_no_change() -> None:
    with pytest.raises(WireError, match="NORMAL"):
        decode_conf_change(Entry(1, 7, b"", EntryType.NORMAL))


@pytest.mark.parametrize("seed", range(20))
def test_garbage_is_refused_or_understood_but_never_crashes(seed: int) -> None:
    rng = random.Random(seed)
    valid = encode_conf_change(ConfChangeV2((ConfChangeSingle(ConfChangeType.ADD_NODE, 2**40),) * 3, context=b"abc"))
    refused = 0
    for _ in range(200):
        payload = bytearray(valid)
        for _ in range(rng.randrange(1, 4)):
            payload[rng.randrange(len(payload))] = rng.randrange(256)
        for kind in (EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2):
            try:
                decode_conf_change(Entry(1, 1, bytes(payload), kind))
            except WireError:
                refused += 1
    assert refused
