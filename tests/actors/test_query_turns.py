"""Whose queries come next: nobody waits for more than the turn under way because of what others ask."""

from __future__ import annotations

from raftactors.actors.messages import ClientFrame
from raftactors.actors.query_turns import ACCOUNTS_MAX, QueryTurns

GREEDY, MODEST, THIRD = b"greedy", b"modest", b"third"


def add(turns: QueryTurns, connection: bytes, *pending_ids: int) -> None:
    for pending_id in pending_ids:
        turns.add(ClientFrame(pending_id, b"", connection))


def take(turns: QueryTurns, seconds: float = 0.001) -> int:
    frame = turns.take()
    assert frame is not None
    turns.charge(frame.connection, seconds)
    return frame.pending_id


def test_connections_take_turns_and_keep_their_own_order() -> None:
    turns = QueryTurns()
    add(turns, GREEDY, 1, 2, 3)
    add(turns, MODEST, 4, 5)
    assert [take(turns) for _ in range(5)] == [1, 4, 2, 5, 3]
    assert not turns
    assert turns.take() is None


def test_who_has_used_little_goes_first() -> None:
    turns = QueryTurns()
    add(turns, GREEDY, *range(10))
    add(turns, MODEST, *range(100, 120))
    order = [take(turns, 0.010 if turns_of_greedy else 0.001) for turns_of_greedy in (True, *[False] * 10)]
    assert order[0] == 0
    assert order[1:11] == list(range(100, 110))


def test_one_who_comes_late_goes_before_a_crowd_with_much_to_ask() -> None:
    turns = QueryTurns()
    for number in range(100):
        add(turns, b"crowd-%d" % number, *range(number * 100, number * 100 + 100))
    for _ in range(1_000):
        take(turns, 0.005)
    add(turns, MODEST, -1)
    assert take(turns) == -1


def test_a_pause_saves_nothing_up() -> None:
    turns = QueryTurns()
    add(turns, GREEDY, *range(100))
    for _ in range(50):
        take(turns, 0.005)
    add(turns, MODEST, *range(100, 110))
    order = [take(turns, 0.005) for _ in range(10)]
    assert sum(number >= 100 for number in order) in {5, 6}


def test_a_held_connection_waits_and_the_others_do_not() -> None:
    turns = QueryTurns()
    add(turns, GREEDY, 1, 2)
    add(turns, MODEST, 3)
    turns.hold(GREEDY)
    add(turns, GREEDY, 4)
    assert take(turns) == 3
    assert turns.take() is None
    assert not turns
    turns.release(GREEDY)
    assert [take(turns) for _ in range(3)] == [1, 2, 4]


def test_a_connection_that_is_gone_is_forgotten_and_may_come_again() -> None:
    turns = QueryTurns()
    add(turns, GREEDY, 1, 2)
    turns.hold(GREEDY)
    turns.forget(GREEDY)
    assert turns.take() is None
    add(turns, GREEDY, 3)
    assert take(turns) == 3
    add(turns, GREEDY, 4)
    add(turns, MODEST, 5)
    turns.forget_frames()
    assert turns.take() is None


def test_the_accounts_are_bounded() -> None:
    turns = QueryTurns()
    for number in range(ACCOUNTS_MAX + 10):
        add(turns, b"%d" % number, number)
        assert take(turns) == number
    assert len(turns._used_s) <= ACCOUNTS_MAX
