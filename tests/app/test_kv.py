"""The key-value battery, as a plain object and against a dumb model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.app import KeyValue
from raftactors.app.kv import SCAN_BYTES_MAX
from raftactors.errors import ApplicationStateError


def test_put_get_delete() -> None:
    store = KeyValue()
    assert store.get("a") is None
    assert store.put("a", b"1") == 1
    assert store.put("b", "text") == 2
    assert (store.get("a"), store.get("b")) == (b"1", "text")
    assert store.put("a", b"2") == 3
    assert store.get_with_version("a") == [b"2", 3]
    assert store.get_with_version("missing") is None
    assert store.delete("a")
    assert not store.delete("a")
    assert store.get("a") is None
    assert store.put("a", b"") == 5, "a deletion is a change too"


def test_compare_and_swap() -> None:
    store = KeyValue()
    assert not store.compare_and_swap("a", b"1", b"2")
    assert store.compare_and_swap("a", None, b"1")
    assert not store.compare_and_swap("a", None, b"2")
    assert not store.compare_and_swap("a", "1", b"2"), "a str never equals bytes"
    assert store.compare_and_swap("a", b"1", "2")
    assert store.get("a") == "2"
    assert store.compare_and_swap("a", "2", None)
    assert store.get("a") is None
    assert store.compare_and_swap("a", None, None)
    assert store.count() == 0


def test_put_if_version_sees_a_value_that_came_back() -> None:
    store = KeyValue()
    first = store.put_if_version("a", b"1", 0)
    assert first == 1
    assert store.put_if_version("a", b"1", 0) is None
    store.put("a", b"2")
    store.put("a", b"1")
    assert store.put_if_version("a", b"9", first) is None
    assert store.get("a") == b"1"
    assert store.put_if_version("a", b"9", 3) == 4


def test_scan_goes_on_behind_a_key_and_ends_early_when_it_grows_large() -> None:
    store = KeyValue()
    for key in ("b", "a/2", "a/1", "a/3", "a"):
        store.put(key, key.encode())
    assert store.scan("a/", limit=2) == [["a/1", b"a/1"], ["a/2", b"a/2"]]
    assert store.scan("a/", after="a/2") == [["a/3", b"a/3"]]
    assert store.scan("a/", after="a/3") == []
    assert [key for key, _ in store.scan(after="a/15")] == ["a/2", "a/3", "b"]
    assert store.count("a/") == 3
    store.put("a/0", bytes(SCAN_BYTES_MAX))
    assert [key for key, _ in store.scan("a/")] == ["a/0"]


@pytest.mark.parametrize("limit", [0, -1, 1_001])
def test_a_scan_without_sense_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        KeyValue().scan(limit=limit)


@pytest.mark.parametrize("key", ["", "x" * 4_097])
def test_a_key_without_sense_changes_nothing(key: str) -> None:
    store = KeyValue()
    with pytest.raises(ValueError, match="the key has"):
        store.put(key, b"")
    with pytest.raises(ValueError, match="the key has"):
        store.compare_and_swap(key, None, b"")
    assert store.snapshot() == KeyValue().snapshot()


KEYS = st.text(alphabet="ab/é", min_size=1, max_size=4)
STEPS = st.lists(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3))
    | st.tuples(st.just("delete"), KEYS)
    | st.tuples(st.just("look"), st.text(alphabet="ab/é", max_size=2), KEYS)
    | st.tuples(st.just("restart")),
    max_size=120,
)


@given(STEPS, st.lists(KEYS, min_size=35, max_size=60, unique=True))
def test_the_store_agrees_with_a_dict(steps: list[tuple[Any, ...]], many: list[str]) -> None:
    store, model = KeyValue(), dict[str, bytes]()
    # Many keys at once, so that both ways of bringing the index up to date are used.
    bulk = [("put", key, b"") for key in many]
    for step in [*bulk, ("look", "", "a"), *steps, *(("delete", key) for key in many), ("look", "", "a")]:
        match step:
            case ("put", key, value):
                store.put(key, value)
                model[key] = value
            case ("delete", key):
                assert store.delete(key) == (model.pop(key, None) is not None)
            case ("restart",):
                state, store = store.snapshot(), KeyValue()
                store.restore(state)
            case ("look", prefix, after):
                keys = sorted(key for key in model if key.startswith(prefix))
                assert store.scan(prefix, limit=1_000) == [[key, model[key]] for key in keys]
                assert [key for key, _ in store.scan(prefix, 1_000, after)] == [key for key in keys if key > after]
                assert store.count(prefix) == len(keys)


@pytest.mark.parametrize("state", [None, [], [1, [1]], [1, 2], {"a": 1}])
def test_a_foreign_snapshot_is_refused(state: object) -> None:
    with pytest.raises(ApplicationStateError, match="not one of KeyValue"):
        KeyValue().restore(state)
