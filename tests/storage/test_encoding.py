"""The compiled encoders give the bytes of those in Python, refuse what they refuse, and give way when they do not."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import raftactors
from raftactors.core.types import ConfState, Entry, EntryType, HardState, Snapshot
from raftactors.errors import InvariantViolation
from raftactors.storage import encoding, marks, record
from raftactors.storage.marks import Mark
from raftactors.storage.record import LogEnd, Place, WalBatch

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
PAYLOADS = st.none() | st.binary(max_size=300) | st.integers(1_900, 5_000).map(bytes) | st.just(bytes(70_001))
IDS = st.lists(U64, max_size=3).map(tuple)
SNAPSHOTS = st.builds(
    Snapshot, st.integers(1, 60), U64, st.builds(ConfState, IDS, IDS, IDS, IDS, st.booleans()), st.just(b"content")
)
PLACE = Place(salt=0x8000_0001, offset=8_192, number=5, chain=77)
END = LogEnd(1, 20)
MARK = Mark(1, 1, 1)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    reason = "the compiled encoder needs a C compiler and Python's headers"
    module: ModuleType = pytest.importorskip("raftactors.storage._encoder", reason=reason)
    assert encoding.gives_the_same_bytes(module)
    return module


@st.composite
def batches(draw: st.DrawFn) -> list[WalBatch]:
    """A few batches, most of which fit behind index 20; some leave a gap or commit too much."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        first = draw(st.integers(18, 26))
        entries = [
            Entry(
                draw(U64),
                first + place + draw(st.sampled_from([0] * 40 + [1])),
                payload,
                draw(st.sampled_from(EntryType)),
            )
            for place, payload in enumerate(draw(st.lists(PAYLOADS, max_size=5)))
        ]
        hard_state = draw(st.none() | st.builds(HardState, U64, U64, st.integers(0, 25)))
        kind: Callable[[Any], Any] = draw(st.sampled_from([list, tuple]))
        found.append(WalBatch(hard_state, kind(entries), draw(st.none() | SNAPSHOTS), draw(st.none() | SNAPSHOTS)))
    return found


def outcome(call: Callable[[], object]) -> tuple[type, str | object]:
    try:
        found = call()
    except InvariantViolation as error:
        return InvariantViolation, str(error)
    return type(found), found


@given(batches(), st.builds(Place, U32, st.integers(4_096, 2**40), U64, U32, st.integers(0, 255)))
@example([], PLACE)
@example([WalBatch(None, [])], PLACE)
@example([WalBatch(HardState(1, 1, 21), [])], PLACE)
@example([WalBatch(HardState(1, 1, 21), [Entry(1, 22, b"")])], PLACE)
@example([WalBatch(HardState(2**64 - 1, 1, 20), [Entry(1, 20, bytes(2_023)), Entry(1, 21, bytes(2_024))])], PLACE)
def test_a_batch_has_the_same_bytes_in_both_forms(compiled: ModuleType, many: list[WalBatch], place: Place) -> None:
    expected = outcome(lambda: record.encode_batch(many, place, END))
    assert outcome(lambda: compiled.encode_batch(many, place, END)) == expected


@given(U32, st.builds(Mark, U64, U64, U64), st.integers(4_096, 2**40), st.booleans())
@example(1, MARK, 8_192, True)
@example(1, MARK, 8_192 - 512, True)
def test_marks_have_the_same_bytes_in_both_forms(
    compiled: ModuleType, salt: int, mark: Mark, stop: int, far: bool
) -> None:
    assert compiled.encode_marks(salt, mark, stop, far=far) == marks.encode_marks(salt, mark, stop, far=far)


@pytest.mark.parametrize("bulk_bytes", [1, 7, 8, 2_000, 2_024, 2_025, 4_096, 1_000_003])
def test_short_and_long_payloads_have_the_same_checksums(compiled: ModuleType, bulk_bytes: int) -> None:
    content = bytes(range(256)) * (bulk_bytes // 256 + 1)
    many = [WalBatch(None, [Entry(1, 21, content[:bulk_bytes]), Entry(1, 22, content[:bulk_bytes])])]
    assert compiled.encode_batch(many, PLACE, END) == record.encode_batch(many, PLACE, END)


MALFORMED: list[Any] = [
    None,
    [None],
    [(None, [])],
    [(None, None, None, None)],
    [(None, [None], None, None)],
    [(None, [(1, 21, b"")], None, None)],
    [(None, [(1, 21, "text", 0)], None, None)],
    [(None, [(1, 21, bytearray(3), 0)], None, None)],
    [(None, [(1, 21.0, b"", 0)], None, None)],
    [(None, [(-1, 21, b"", 0)], None, None)],
    [(None, [(2**64, 21, b"", 0)], None, None)],
    [((1, 1), [], None, None)],
    [((1, 1, None), [], None, None)],
    [(None, [], (1, 2), None)],
    [(None, [], None, "abcd")],
    [(None, [], ("a", "b", "c", "d"), None)],
]


@pytest.mark.parametrize("malformed", MALFORMED, ids=str)
def test_what_is_no_batch_is_refused_by_the_compiled_encoder(compiled: ModuleType, malformed: object) -> None:
    with pytest.raises((TypeError, OverflowError, AttributeError)):
        compiled.encode_batch(malformed, PLACE, END)


OTHER_BATCH_ARGUMENTS: list[tuple[Any, ...]] = [
    (), ([],), ([], PLACE), ([], None, END), ([], PLACE, None), ([], PLACE, (1, 2, 3)),
]  # fmt: skip
OTHER_MARK_ARGUMENTS: list[tuple[Any, ...]] = [
    (), (1, MARK), (1, None, 1), (None, MARK, 1), (1, MARK, None), (1, (1, 1, "a"), 1), (1, (1, 1), 1), (1, MARK, 1, 1),
]  # fmt: skip


def test_arguments_of_another_kind_are_refused(compiled: ModuleType) -> None:
    for arguments in OTHER_BATCH_ARGUMENTS:
        with pytest.raises((TypeError, AttributeError)):
            compiled.encode_batch(*arguments)
    for arguments in OTHER_MARK_ARGUMENTS:
        with pytest.raises(TypeError):
            compiled.encode_marks(*arguments, far=True)
    for named in ({}, {"near": True}, {"far": True, "near": True}):
        with pytest.raises(TypeError):
            compiled.encode_marks(1, MARK, 1, **named)


def test_nothing_is_kept_behind_and_nothing_given_back_twice(compiled: ModuleType) -> None:
    snapshot, hard_state = Snapshot(30, 3), HardState(3, 1, 31)
    entries = [Entry(3, 31, b"payload" * 9), Entry(3, 32, bytes(3_000))]
    good = [WalBatch(None, [], snapshot=snapshot), WalBatch(hard_state, entries, taken=Snapshot(31, 3))]
    bad = [*good, WalBatch(None, [Entry(3, 40, b"")])]
    held = [*good, snapshot, hard_state, *entries, *(entry.data for entry in entries), END]

    def turn() -> None:
        for _ in range(1_000):
            compiled.encode_batch(good, PLACE, END)
            compiled.encode_marks(1, MARK, 9_000, far=True)
            with suppress(InvariantViolation):
                compiled.encode_batch(bad, PLACE, END)
        gc.collect()

    turn()
    references = [sys.getrefcount(value) for value in held]
    tracemalloc.start()
    turn()
    before = tracemalloc.get_traced_memory()[0]
    turn()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert [sys.getrefcount(value) for value in held] == references
    assert grown < 16_384  # One object kept a turn, of 56 bytes or more, would be three times that.


def test_an_encoder_with_other_bytes_is_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(encoding.PURE_PYTHON_VARIABLE, raising=False)
    other: Any = SimpleNamespace(
        encode_batch=record.encode_batch, encode_marks=lambda salt, mark, stop, far: bytes(4_096 - stop % 4_096)
    )
    monkeypatch.setitem(sys.modules, "raftactors.storage._encoder", other)
    with pytest.warns(RuntimeWarning, match="install raftactors again"):
        assert encoding.compiled_encoder() is None
    other.encode_marks = marks.encode_marks
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoding.compiled_encoder() is other
    monkeypatch.delattr(other, "encode_batch")
    with pytest.warns(RuntimeWarning, match="built from other sources"):
        assert encoding.compiled_encoder() is None


def in_a_new_process(program: str, folder: Path, **environment: str) -> None:
    program = f"from raftactors.storage import encoding, marks, record, wal\n{program}"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=folder, env=environment, timeout=60)


IN_PYTHON = (
    "assert encoding.ENCODER == 'Python'\n"
    "assert wal.encode_batch is record.encode_batch and wal.encode_marks is marks.encode_marks"
)


def test_the_log_uses_the_compiled_encoder_where_there_is_one(compiled: ModuleType, tmp_path: Path) -> None:
    program = "assert encoding.ENCODER == 'compiled' and wal.encode_batch is not record.encode_batch"
    in_a_new_process(program, tmp_path)


def test_the_log_uses_the_encoder_in_python_on_demand(tmp_path: Path) -> None:
    in_a_new_process(IN_PYTHON, tmp_path, **{encoding.PURE_PYTHON_VARIABLE: "1"})


def test_the_log_uses_the_encoder_in_python_where_nothing_was_compiled(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(Path(raftactors.__file__).parent, tmp_path / "raftactors", ignore=ignored)
    program = f"assert encoding.__file__.startswith({str(tmp_path)!r})\n{IN_PYTHON}"
    in_a_new_process(program, tmp_path, PYTHONPATH=str(tmp_path))
