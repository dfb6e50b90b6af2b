"""Exactly once: duplicates, gaps, acknowledgements, eviction, expiry; and everything of it against a dumb model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.app import Application, command, sessions
from raftactors.app.sessions import SessionTable
from raftactors.codec.frames import Commands
from raftactors.codec.replies import DocumentReply, ResultStatus
from raftactors.config import Limits
from raftactors.errors import ApplicationStateError
from tests.app.replica import Replica, close_frame, commands_frame, keep_alive_frame, open_frame, outcomes

OK = ResultStatus.OK
OUT_OF_ORDER = (ResultStatus.OUT_OF_ORDER, "")
ALREADY_ACKED = (ResultStatus.ALREADY_ACKED, "")
SESSION_EXPIRED = (ResultStatus.SESSION_EXPIRED, "")
WINDOW_FULL = (ResultStatus.WINDOW_FULL, "")


class Recorder(Application):
    """Remembers what ran, in order."""

    def __init__(self) -> None:
        self.ran: list[int] = []

    @command
    def note(self, value: int) -> int:
        self.ran.append(value)
        return len(self.ran)

    @command
    def refuse(self, value: int) -> None:
        self.ran.append(value)
        raise ValueError(f"no {value}")

    @command
    def produce(self, size: int) -> bytes:
        return bytes(size)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def replica(recorder: Recorder) -> Replica:
    return Replica(recorder)


def test_a_duplicate_gets_the_first_result_and_runs_nothing(replica: Replica, recorder: Recorder) -> None:
    session = replica.open()
    first = replica.run(session, 1, ("note", 10), ("refuse", 11), ("missing",))
    assert [status for status, _ in first] == [OK, ResultStatus.APPLICATION_ERROR, ResultStatus.UNKNOWN_METHOD]
    assert replica.run(session, 1, ("note", 10), ("refuse", 11), ("missing",)) == first
    assert replica.run(session, 2, ("refuse", 11), ("missing",), ("note", 12)) == [*first[1:], (OK, 3)]
    assert recorder.ran == [10, 11, 12]


def test_a_gap_is_not_executed(replica: Replica, recorder: Recorder) -> None:
    session = replica.open()
    assert replica.run(session, 2, ("note", 2), ("note", 3)) == [OUT_OF_ORDER, OUT_OF_ORDER]
    assert recorder.ran == []
    assert replica.run(session, 1, ("note", 1)) == [(OK, 1)]
    assert replica.run(session, 2, ("note", 2), ("note", 3)) == [(OK, 2), (OK, 3)]


def test_an_acknowledged_result_is_forgotten(replica: Replica, recorder: Recorder) -> None:
    session = replica.open()
    replica.run(session, 1, ("note", 1), ("note", 2), ("note", 3))
    assert replica.run(session, 4, ("note", 4), acked=2) == [(OK, 4)]
    assert replica.run(session, 1, *[("note", n) for n in (1, 2, 3, 4)]) == [
        ALREADY_ACKED,
        ALREADY_ACKED,
        (OK, 3),
        (OK, 4),
    ]
    replica.commit(keep_alive_frame(session, acked=2**64 - 1))
    assert replica.run(session, 4, ("note", 4), ("note", 5)) == [ALREADY_ACKED, (OK, 5)], "nothing unborn was acked"
    assert recorder.ran == [1, 2, 3, 4, 5]


def test_sessions_of_one_entry_have_ids_of_their_own(replica: Replica) -> None:
    first, second = replica.commit(open_frame(), open_frame())
    assert isinstance(first, DocumentReply)
    assert isinstance(second, DocumentReply)
    assert (first.document, second.document) == (1 << 16, 1 << 16 | 1)


def test_a_closed_or_unknown_session_executes_nothing(replica: Replica, recorder: Recorder) -> None:
    session = replica.open()
    (closed,) = replica.commit(close_frame(session))
    (again,) = replica.commit(close_frame(session))
    assert (closed, again) == (DocumentReply(2, 0, None), DocumentReply(3, 0, None))
    assert replica.run(session, 1, ("note", 1), ("note", 2)) == [SESSION_EXPIRED, SESSION_EXPIRED]
    (lost,) = replica.commit(keep_alive_frame(session))
    assert outcomes(lost) == [SESSION_EXPIRED]
    assert recorder.ran == []


def test_without_a_session_everything_runs(replica: Replica, recorder: Recorder) -> None:
    assert replica.run(0, 1, ("note", 1)) == [(OK, 1)]
    assert replica.run(0, 1, ("note", 1)) == [(OK, 2)]


def test_a_session_expires_by_replicated_time_only(recorder: Recorder) -> None:
    replica = Replica(recorder, limits=Limits(session_ttl_ms=100))
    idle, lively = replica.open(now_ms=1_000), replica.open(now_ms=1_000)
    replica.commit(keep_alive_frame(lively), now_ms=1_100)
    assert replica.host.session_count == 2, "the last allowed millisecond"
    replica.commit(commands_frame(0, 1, ("note", 0)), now_ms=500)
    assert replica.host.now_ms == 1_100, "time never runs backwards"
    replica.commit(commands_frame(0, 1, ("note", 0)), now_ms=1_101)
    assert replica.run(idle, 1, ("note", 1)) == [SESSION_EXPIRED]
    assert replica.run(lively, 1, ("note", 1)) == [(OK, 3)]


def test_the_least_recently_active_session_makes_room(recorder: Recorder) -> None:
    replica = Replica(recorder, limits=Limits(sessions_max=2))
    first, second = replica.open(), replica.open()
    replica.run(first, 1, ("note", 1))
    third = replica.open()
    assert replica.run(second, 1, ("note", 2)) == [SESSION_EXPIRED]
    assert replica.run(first, 2, ("note", 3)) == [(OK, 2)]
    assert replica.run(third, 1, ("note", 4)) == [(OK, 3)]


def test_a_session_that_acknowledges_nothing_is_stopped(recorder: Recorder) -> None:
    replica = Replica(recorder, limits=Limits(session_inflight_max=2))
    session = replica.open()
    calls = [("note", n) for n in (1, 2, 3, 4)]
    assert replica.run(session, 1, *calls) == [(OK, 1), (OK, 2), WINDOW_FULL, OUT_OF_ORDER]
    assert recorder.ran == [1, 2]
    assert replica.run(session, 3, *calls[2:], acked=2) == [(OK, 3), (OK, 4)]


def test_the_bytes_of_kept_results_are_bounded(monkeypatch: pytest.MonkeyPatch, replica: Replica) -> None:
    monkeypatch.setattr(sessions, "CACHED_BYTES_MAX", 1_000)
    monkeypatch.setattr(sessions, "CACHED_BYTES_TOTAL_MAX", 2_500)
    busy = [replica.open(), replica.open()]
    for session in busy:
        statuses = [status for status, _ in replica.run(session, 1, *[("produce", 600)] * 3)]
        assert statuses == [OK, OK, ResultStatus.WINDOW_FULL]
    third = replica.open()
    replica.run(third, 1, ("produce", 600))
    assert replica.run(busy[0], 1, ("produce", 600)) == [SESSION_EXPIRED], "it was the least recently active one"
    assert replica.run(busy[1], 1, ("produce", 600)) == [(OK, bytes(600))]


def execute(table: SessionTable, session: int, first: int, count: int, *, acked: int = 0, now_ms: int = 0) -> None:
    commands = [memoryview(b"command")] * count
    table.execute(Commands(session, first, acked, commands), now_ms, lambda command: (0, b"result"))


def new_table() -> SessionTable:
    return SessionTable(sessions_max=3, session_ttl_ms=100, inflight_max=10)


def test_a_restored_table_equals_the_one_that_made_the_snapshot() -> None:
    table = new_table()
    for session in (7, 5, 6):
        table.open(session, 1)
    execute(table, 5, 1, 4, acked=0, now_ms=2)
    execute(table, 7, 1, 2, now_ms=3)
    execute(table, 5, 5, 1, acked=3, now_ms=4)
    restored = new_table()
    restored.open(99, 0)
    restored.restore(table.snapshot())
    assert restored.snapshot() == table.snapshot()
    assert restored.cached_bytes == table.cached_bytes == 4 * len(b"result")
    for each in (table, restored):
        each.open(8, 5)
        execute(each, 7, 3, 1, acked=2, now_ms=6)
        each.expire(105)
    assert restored.snapshot() == table.snapshot()
    assert 6 not in restored, "evicted as the least recently active one"
    assert 5 not in restored, "expired"
    assert restored.cached_bytes == table.cached_bytes == len(b"result")
    restored.close(7)
    assert restored.cached_bytes == 0


@pytest.mark.parametrize(
    "state",
    [
        None,
        5,
        [1],
        [[1, 2, 3]],
        [[1, 0, 3, 0, []]],
        [[1, 0, 2, 0, [[99, b""]]]],
        [[1, 0, 2, 0, [[0, "text"]]]],
        [[1, 0, 2, 0, [[0, 9]]]],
    ],
)
def test_a_malformed_table_is_refused(state: object) -> None:
    with pytest.raises(ApplicationStateError, match="session table is malformed"):
        new_table().restore(state)


class Client:
    """A client that packs its commands into frames, and a network that repeats and reorders them."""

    def __init__(self, session: int, sizes: list[int]) -> None:
        self.session = session
        self.frames: list[tuple[int, list[int]]] = []
        sequence = 1
        for size in sizes:
            self.frames.append((sequence, list(range(sequence, sequence + size))))
            sequence += size
        self.last = sequence - 1


@given(
    sizes=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=3),
    deliveries=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=60),
    restarts=st.sets(st.integers(0, 59)),
)
def test_every_command_runs_exactly_once_in_order(
    sizes: list[list[int]], deliveries: list[tuple[int, int]], restarts: set[int]
) -> None:
    recorder = Recorder()
    replica = Replica(recorder)
    clients = [Client(replica.open(), each) for each in sizes]
    expected: list[int] = []
    """What the dumb model ran: a command runs when all before it ran, and never again."""
    done = [0] * len(clients)
    seen: dict[tuple[int, int], Any] = {}
    # The network delivers as it likes; at last each client sends everything in order once more.
    final = [(number, place) for number, client in enumerate(clients) for place in range(len(client.frames))]
    for step, (number, place) in enumerate([*deliveries, *final]):
        client = clients[number % len(clients)]
        number = clients.index(client)  # noqa: PLW2901  # the drawn number stands for one of the clients there are
        first, values = client.frames[place % len(client.frames)]
        calls = [("note", number * 1_000 + value) for value in values]
        for value, outcome in zip(values, replica.run(client.session, first, *calls), strict=True):
            if value == done[number] + 1:
                done[number] = value
                expected.append(number * 1_000 + value)
                seen[number, value] = (OK, len(expected))
            assert outcome == (seen[number, value] if value <= done[number] else OUT_OF_ORDER)
        if step in restarts:
            recorder, snapshot = Recorder(), replica.host.snapshot()
            replica = Replica(recorder)
            replica.host.restore(snapshot)
        assert recorder.ran == expected
    assert done == [client.last for client in clients]
