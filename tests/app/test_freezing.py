"""Freezing a replica: what was set aside does not change while commands go on, and comes back the same."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.app.application import Application, command
from raftactors.app.freezing import FreezableApplication
from raftactors.app.host import ApplicationHost
from raftactors.app.kv import KeyValue
from raftactors.app.overlay import Overlay, ascending
from raftactors.config import Limits
from raftactors.errors import ApplicationStateError, ConfigError

from .bank import Bank
from .replica import Replica, commands_frame

KEYS = st.text(string.ascii_lowercase[:4], max_size=2)
STEPS = st.lists(st.one_of(st.tuples(st.just("put"), KEYS, st.integers()), st.tuples(st.just("pop"), KEYS)))


@given(st.dictionaries(KEYS, st.integers()), STEPS)
def test_an_overlay_agrees_with_a_dict(start: dict[str, int], steps: list[tuple[Any, ...]]) -> None:
    frozen, model = dict(start), dict(start)
    overlay = Overlay(frozen)
    for step in steps:
        if step[0] == "put":
            overlay[step[1]] = model[step[1]] = step[2]
        else:
            assert overlay.pop(step[1], None) == model.pop(step[1], None)
        assert len(overlay) == len(model)
        assert {key: overlay[key] for key in overlay} == model
        assert all((key in overlay) == (key in model) for key in ["a", "b", "aa", "zz"])
        assert overlay.get("zz") is None
    assert frozen == start
    for key in ("zz", *(key for key in start if key not in model)):
        with pytest.raises(KeyError):
            overlay[key]
        with pytest.raises(KeyError):
            del overlay[key]
    assert list(ascending(overlay)) == sorted(model)
    assert overlay.merged() == model


def test_many_keys_come_in_order() -> None:
    rng = random.Random(1)
    keys = {str(rng.random()): None for _ in range(30_000)}
    assert list(ascending(keys)) == sorted(keys)


def put(replica: Replica, key: str, value: str) -> None:
    replica.commit(commands_frame(0, 1, ("put", key, value)))


def test_what_was_frozen_stays_as_it_was() -> None:
    replica = Replica(KeyValue())
    session = replica.open()
    for number in range(100):
        replica.run(session, number + 1, ("put", f"k{number}", "old"))
    expected = replica.host.snapshot()
    frozen = replica.host.freeze()
    assert (frozen.index, frozen.term) == (replica.host.applied_index, 1)
    parts = [next(frozen.content)]
    replica.run(session, 101, ("put", "k7", "new"), ("delete", "k8"), ("put", "fresh", "new"), acked=100)
    assert [value for _, value in replica.ask(("get", "k7"), ("get", "k8"), ("get", "fresh"), ("count",))] == [
        "new",
        None,
        "new",
        100,
    ]
    while_frozen = replica.host.state_digest()
    parts += frozen.content
    assert b"".join(parts) == expected
    replica.host.thaw()
    assert replica.host.state_digest() == while_frozen
    other = Replica(KeyValue(), node_id=2)
    other.host.restore_from(parts)
    assert other.host.snapshot() == expected
    assert len(replica.ask(("scan", "k", 1_000))[0][1]) == 99


def test_a_snapshot_may_be_cut_anywhere() -> None:
    replica = Replica(KeyValue())
    replica.open()
    for number in range(300):
        put(replica, f"k{number}", "v" * number)
    content = replica.host.snapshot()
    for size in (1, 3, 64, 1_000, len(content)):
        other = Replica(KeyValue(), node_id=2)
        other.host.restore_from(content[start : start + size] for start in range(0, len(content), size))
        assert other.host.snapshot() == content


def test_a_restore_ends_a_freeze() -> None:
    source, target = Replica(KeyValue()), Replica(KeyValue())
    put(source, "a", "1")
    put(target, "b", "2")
    frozen = target.host.freeze()
    target.host.restore(source.host.snapshot())
    assert b"b" in b"".join(frozen.content)
    target.host.thaw()
    assert target.host.snapshot() == source.host.snapshot()
    put(target, "c", "3")


def test_any_other_application_is_encoded_at_once() -> None:
    replica = Replica(Bank())
    replica.commit(commands_frame(0, 1, ("deposit", "ann", 5)))
    expected, frozen = replica.host.snapshot(), replica.host.freeze()
    replica.commit(commands_frame(0, 1, ("deposit", "ann", 5)))
    assert b"".join(frozen.content) == expected
    replica.host.thaw()


def test_freezing_takes_no_longer_for_a_large_store() -> None:
    """Compared with reading the same store, so that the speed of the machine does not matter."""
    store = KeyValue()
    for number in range(200_000):
        store.put(f"key-{number}", "v")
    host = ApplicationHost(store, limits=Limits(), node_id=1)
    started = time.perf_counter()
    frozen = host.freeze()
    frozen_s = time.perf_counter() - started
    length = sum(map(len, frozen.content))
    read_s = time.perf_counter() - started
    host.thaw()
    assert length > 200_000 * 10
    assert frozen_s < read_s / 50, (frozen_s, read_s)


class Careless(FreezableApplication):
    """Writes what it cannot read."""

    def __init__(self) -> None:
        self.value: Any = 1

    @command
    def touch(self) -> None:
        """Nothing."""

    def pieces(self) -> Iterator[object]:
        yield self.value
        yield "left over"

    def restore_pieces(self, pieces: Iterable[Any]) -> None:
        self.value = next(iter(pieces))


def test_pieces_that_nobody_reads_are_a_mistake() -> None:
    host = ApplicationHost(Careless(), limits=Limits(), node_id=1)
    with pytest.raises(ApplicationStateError, match="left pieces"):
        host.restore(host.snapshot())
    host.application = type("Bad", (Careless,), {"value": {1, 2}})()
    host.application.value = {1, 2}  # type: ignore[attr-defined]
    with pytest.raises(ApplicationStateError, match="cannot be snapshotted"):
        host.snapshot()


def test_the_methods_of_a_freezable_application_are_no_commands() -> None:
    class Wrong(FreezableApplication):
        @command
        def thaw(self) -> None:
            """Taken."""

    with pytest.raises(ConfigError, match="cannot be a command"):
        ApplicationHost(Wrong(), limits=Limits(), node_id=1)


def test_an_application_of_one_piece_takes_no_more() -> None:
    many = ApplicationHost(KeyValue(), limits=Limits(), node_id=1)
    many.application.put("a", "1")  # type: ignore[attr-defined]

    class One(Application):
        @command
        def touch(self) -> None:
            """Nothing."""

    with pytest.raises(ApplicationStateError, match="2 pieces"):
        ApplicationHost(One(), limits=Limits(), node_id=1).restore(many.snapshot())
