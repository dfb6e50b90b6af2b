from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import random
import tracemalloc
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no type information
import pytest

from raftactors.codec.msgpack import MSGPACK_BYTES_MAX, pack, pack_readable, unpack
from raftactors.codec.shape import DEPTH_MAX, VALUES_MAX, check_shape
from raftactors.errors import ArgumentsError, WireError


def nested(levels: int, innermost: object = None) -> object:
    value = innermost
    for _ in range(levels):
        value = [value]
    return value


def test_values_come_back_with_any_scalar_as_a_key() -> None:
    value = {"a": [1, -1, 2.5, None, True, "é", b"\xff"], 1: "one", -7: 0, None: 0, 2.5: 0, b"k": 0}
    assert unpack(pack(value)) == value
    assert unpack(pack({True: 1, "rest": (1, 2)})) == {True: 1, "rest": [1, 2]}
    assert unpack(pack(bytes(100_000)), bytes_max=200_000) == bytes(100_000)


def test_bytes_from_outside_are_decoded_within_limits_only() -> None:
    for malformed in (
        pack(bytes(MSGPACK_BYTES_MAX)),
        b"\x91" * 2_000 + b"\xc0",
        b"\x81\x90\x02",
        b"\x81\x80\x02",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xa1\xff",
        b"\x01\x01",
        b"\xc1",
        b"",
        b"\x92\x01",
        b"\xc7\x00\x01",
        b"\xdc\x10\x00" * 1_100,
    ):
        with pytest.raises(WireError, match=r"^msgpack_"):
            unpack(malformed)


@pytest.mark.parametrize("value", [list(range(5_000)), {key: key for key in range(5_000)}, [[]] * 60_000])
def test_a_container_may_hold_as_much_as_the_message(value: object) -> None:
    content = pack_readable(value)
    assert unpack(content, bytes_max=len(content)) == value


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda extra: [0] * (VALUES_MAX - 1 + extra), f"a list of {VALUES_MAX}, and one message holds at most"),
        (lambda extra: {"x": [[0]] * (VALUES_MAX // 2 - 2 + extra)}, f"at most {VALUES_MAX} values in all"),
        (lambda extra: nested(DEPTH_MAX - 1 + extra, []), f"nested more than {DEPTH_MAX} deep"),
        (lambda extra: nested(DEPTH_MAX + extra, b"long" * 100), f"nested more than {DEPTH_MAX} deep"),
        (lambda extra: {"n": 2**64 - 1 + extra}, r"an int of 65 bits, .* at \['n'\]; use str"),
        (lambda extra: [-(2**63) - extra], r"an int of 64 bits, .* at \[0\]; use str"),
    ],
)
def test_both_sides_draw_the_line_at_the_same_place(make: Callable[[int], object], named: str) -> None:
    assert unpack(pack_readable(make(0)), bytes_max=2**20) == make(0)
    with pytest.raises(ArgumentsError, match=named):
        pack(make(1))


def test_what_breaks_a_limit_is_refused_with_a_text_that_no_version_of_the_library_changes() -> None:
    for value, text in (
        ([0] * VALUES_MAX, f"msgpack_values: more than {VALUES_MAX} values in one message"),
        (nested(DEPTH_MAX + 1), f"msgpack_depth: lists and dicts nested more than {DEPTH_MAX} deep"),
        ({(1, 2): 3}, "msgpack_key: a list or a dict is the key of a dict"),
    ):
        with pytest.raises(WireError) as caught:
            unpack(msgpack.packb(value), bytes_max=2**20)
        assert str(caught.value) == text


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Name(str):
    __slots__ = ()


class Evil(dict[str, int]):
    def items(self) -> Any:
        raise KeyError("nobody expects this")


@dataclasses.dataclass
class Account:
    owner: str


def iter_nothing() -> Iterator[int]:
    yield from ()


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1, 2}, "a value of type set; use a sorted list"),
        ([1, {"when": datetime.datetime(2026, 1, 1)}], "a value of type datetime at [1]['when']; use its isoformat()"),
        ({"price": decimal.Decimal(1)}, "a value of type Decimal at ['price']; use str(...) or a whole number"),
        (Account("ann"), "a value of type Account; use dataclasses.asdict(...)"),
        ([Colour.RED], "a value of type Colour at [0]; use its value"),
        (deque([1]), "a value of type deque; use list(...)"),
        ({1: 2}.items(), "a value of type dict_items; use list(...)"),
        (iter_nothing(), "a value of type generator; use list(...)"),
        (Path("x"), "a value of type PosixPath; use str(...)"),
        (1j, "a value of type complex; use its real and imag"),
        (object(), "a value of type object; use None, bool, int, float, str, bytes, list or dict"),
        (["ok", "\ud800"], "the str '\\ud800', which has a lone surrogate at [1]; encode it"),
        ({"\ud800": 1}, "a dict with the key: the str '\\ud800', which has a lone surrogate"),
        ([{(1, 2): 3}], "a dict with a key of type tuple at [0]; use keys of None, bool, int"),
        (msgpack.Timestamp(1), "a value of type Timestamp; use a number of milliseconds"),
        ([msgpack.ExtType(1, b"")], "a value of type ExtType at [0]; use None, bool"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_names_the_value_its_place_and_the_way_out(value: object, text: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        pack_readable(value)
    assert text in str(caught.value)
    assert pack([1]) == b"\x91\x01", "a rest was left in the packer"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (Number.ONE, 1),
        (Name("ann"), "ann"),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (float("inf"), float("inf")),
        ({Number.ONE: Name("x")}, {1: "x"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_derives_from_a_basic_type_comes_back_as_that(value: object, read: object) -> None:
    assert unpack(pack_readable(value)) == read
    assert unpack(pack_readable([value])) == [read]


def test_a_cycle_is_deep_and_a_broken_container_is_somebody_elses_exception() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(ArgumentsError, match="nested more than"):
        pack(cycle)
    with pytest.raises(KeyError):
        pack(Evil(a=1))
    assert pack([1]) == b"\x91\x01"


BOMBS = {
    "announced lists": b"\xdc\xff\xff" * 21_845,
    "announced long lists": b"\xdd\x00\x00\xff\xff" * 13_000,
    "announced maps": b"\xde\xff\xff\x00" * 16_000,
    "few announced": b"\xdc\xff\xff" * 100 + bytes(65_000),
    "empty lists": b"\xdd\x00\x00\xff\xff" + b"\x90" * 65_535,
    "empty dicts": b"\xdd\x00\x00\xff\xff" + b"\x80" * 65_535,
    "dicts of one": b"\xdc\x7f\xff" + b"\x81\x00" * 32_767,
    "dicts of one pair": b"\xdc\x55\x55" + b"\x81\x00\x00" * 21_845,
    "dicts in dicts": b"\xdc\x02\x0f" + (b"\x81\x00" * 62 + b"\x00") * 527,
    "small numbers": b"\xdd\x00\x00\xff\xff" + b"\xe0" * 65_535,
    "wide text": b"\xdc\x33\x33" + "\U0001f600".encode().join([b"\xa4"] * 13_107) + "\U0001f600".encode(),
    "a million lists": b"\xdd\x00\x0f\xff\xff" + b"\x90" * (2**20 - 1),
    "a million numbers": b"\xdd\x00\x0f\xff\xff" + b"\xe0" * (2**20 - 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_frame_grows_to_more_than_four_times_its_size_and_8_mib(name: str) -> None:
    content = BOMBS[name]
    tracemalloc.start()
    try:
        try:
            made = unpack(content, bytes_max=2**20 + 5)
        except WireError as error:
            made = error
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes <= 4 * len(content) + 8 * 2**20, f"{peak_bytes} bytes out of {len(content)}"
    assert made is not None


@pytest.mark.parametrize("seed", range(4))
def test_the_walk_agrees_with_the_decoder_about_every_truncation(seed: int) -> None:
    rng = random.Random(seed)

    def value(depth: int) -> object:
        kinds: list[Callable[[], object]] = [
            lambda: rng.choice([None, True, 1.5, -(2**40), 2**60, 200, -200, 70_000, -5]),
            lambda: "é" * rng.choice([1, 40, 300]),
            lambda: rng.randbytes(rng.choice([0, 200, 70_000])),
        ]
        if depth < 4:
            kinds += [
                lambda: [value(depth + 1) for _ in range(rng.choice([0, 3, 20]))],
                lambda: {key: value(depth + 1) for key in range(rng.choice([0, 3, 20]))},
            ] * 3
        return rng.choice(kinds)()

    content = pack([[0] * DEPTH_MAX, *(value(0) for _ in range(20)), nested(DEPTH_MAX - 1)])
    check_shape(content)
    for end in [*range(DEPTH_MAX + 1, min(len(content), 2_000)), len(content) - 1]:
        with pytest.raises(WireError, match=r"^msgpack_"):
            unpack(content[:end], bytes_max=2**24)


@pytest.mark.parametrize("head", range(256))
def test_the_walk_knows_the_length_of_every_kind_of_value(head: int) -> None:
    rng = random.Random(head)
    for _ in range(40):
        tail = bytes(2) if head in {0xDD, 0xDF, 0xC6, 0xC9, 0xDB} else b""
        part = bytes((head,)) + tail + bytes((rng.choice([0, 0, 1, 3]), rng.randrange(4))) + bytes(300)
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        unpacker.feed(part)
        try:
            unpacker.skip()
        except (ValueError, msgpack.UnpackException):
            continue
        whole = part[: unpacker.tell()]
        # 300 heads before it make sure that it is looked at; the nil after it is found only at the right place.
        before = b"\xdc\x01\x2e" + b"\x90" * 300
        check_shape(before + whole + b"\xc0")
        with pytest.raises(WireError, match="msgpack_truncated"):
            check_shape(before + whole)
