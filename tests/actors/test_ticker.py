"""The ticker: one tick a period, and one after a pause however long it was."""

from __future__ import annotations

from raftactors.actors.mailbox import Mailbox
from raftactors.actors.messages import Tick
from raftactors.actors.ticker import Ticker


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def ticks_waiting(listener: Mailbox) -> int:
    return listener.waiting()


def take_tick(listener: Mailbox) -> Tick:
    (tick,) = listener.get().message.messages
    assert isinstance(tick, Tick)
    tick.waiting = False
    return tick


def build(listeners: int = 1) -> tuple[Ticker, FakeClock, list[Mailbox]]:
    clock = FakeClock()
    boxes = [Mailbox(f"listener{number}", messages_max=10) for number in range(listeners)]
    ticker = Ticker(Mailbox("ticker", messages_max=10), tick_ms=100, listeners=boxes, clock=clock)
    return ticker, clock, boxes


def test_a_tick_comes_when_the_period_is_over_and_not_before() -> None:
    ticker, clock, (listener,) = build()
    clock.now_s += 0.099
    ticker.flush()
    assert ticks_waiting(listener) == 0
    clock.now_s += 0.001
    ticker.flush()
    assert ticks_waiting(listener) == 1


def test_every_listener_gets_its_own_tick() -> None:
    ticker, clock, boxes = build(listeners=3)
    clock.now_s += 0.1
    ticker.flush()
    assert len({id(take_tick(box)) for box in boxes}) == 3


def test_steady_ticks_keep_the_period_without_drift() -> None:
    ticker, clock, (listener,) = build()
    count = 0
    for _ in range(1000):
        clock.now_s += 0.01
        ticker.flush()
        if not listener.empty():
            take_tick(listener)
            count += 1
    assert 99 <= count <= 100


def test_after_a_pause_comes_one_tick_and_no_burst() -> None:
    ticker, clock, (listener,) = build()
    clock.now_s += 3600
    for _ in range(5):
        ticker.flush()
        if not listener.empty():
            take_tick(listener)
            clock.now_s += 0.001
    assert listener.empty()
    clock.now_s += 0.05
    ticker.flush()
    assert ticks_waiting(listener) == 1


def test_a_listener_that_is_behind_gets_no_second_tick() -> None:
    ticker, clock, (listener,) = build()
    for _ in range(10):
        clock.now_s += 0.1
        ticker.flush()
    assert ticks_waiting(listener) == 1


def test_the_next_wake_up_is_never_in_the_past() -> None:
    ticker, clock, _ = build()
    for step_s in (0.0, 0.05, 0.5, 100.0):
        clock.now_s += step_s
        ticker.flush()
        timeout_s = ticker.mailbox.idle_timeout_s
        assert timeout_s is not None
        assert 0 <= timeout_s <= 0.1
