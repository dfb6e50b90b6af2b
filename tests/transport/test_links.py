"""Beats keep a link alive, and a silent member is given up and met again; the clock is the test's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from raftactors.transport.envelope import PeerKind
from raftactors.transport.links import BEAT_S, STEP_S_MAX, LinkPlan, MemberLinks
from raftactors.transport.options import SILENCE_MS_MAX
from tests.transport.conftest import SMALL, hold_port

DEADLINE_S = 20.0


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Pair:
    """Nodes 1 and 2, linked in both directions."""

    def __init__(self, context: zmq.Context[Any], addresses: dict[int, str], clock: Clock) -> None:
        self.clock = clock
        self.one, self.two = (
            MemberLinks(
                LinkPlan(
                    cluster_id=77,
                    node_id=node_id,
                    incarnation=1,
                    listen_name="peer_address",
                    listen_address=addresses[node_id],
                    addresses={3 - node_id: addresses[3 - node_id]},
                    limits=SMALL,
                ),
                PeerKind.RAFT,
                context=context,
                clock=clock,
            )
            for node_id in (1, 2)
        )

    def work(self, done: Callable[[], bool], *, nodes: tuple[MemberLinks, ...] = ()) -> None:
        """Let the nodes, by default both, do their work at the present time until `done`."""
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < deadline
            self.clock.now_s += 0.001  # A HELLO may be repeated only after a pause.
            for links in nodes or (self.one, self.two):
                links.receive(100)
                links.tend()
            (nodes or (self.one,))[0].sockets()[0].poll(1)

    def pass_time(self, seconds: float, *, nodes: tuple[MemberLinks, ...] = ()) -> None:
        """Let time go by in ticks of 50 ms; what is sent in one is received in the next."""
        for _ in range(round(seconds / 0.05)):
            self.clock.now_s += 0.05
            for links in nodes or (self.one, self.two):
                links.receive(100)
                links.tend()

    def connected(self) -> bool:
        return self.one.connected() == {2} and self.two.connected() == {1}


@pytest.fixture
def pair(context: zmq.Context[Any], closing: ExitStack) -> Iterator[Pair]:
    addresses = {1: hold_port(closing), 2: hold_port(closing)}
    made = Pair(context, addresses, Clock())
    made.work(made.connected)
    yield made
    made.one.close()
    made.two.close()


def test_an_idle_link_carries_beats_and_stays(pair: Pair) -> None:
    heard: set[float] = set()
    for _ in range(40):
        pair.clock.now_s += BEAT_S + 0.01
        pair.one.tend()
        pair.two.tend()
        for links in (pair.one, pair.two):
            assert links.sockets()[0].poll(round(DEADLINE_S * 1000)), "no beat came"
            links.receive(100)
        heard.add(pair.one._heard_s[2])
    assert pair.connected()
    assert len(heard) == 40
    assert not pair.one.gate.drops


def test_a_silent_member_is_given_up_in_time_and_met_again(pair: Pair) -> None:
    lost_after_s = 0.0
    while pair.one.connected():
        pair.pass_time(0.05, nodes=(pair.one,))
        lost_after_s += 0.05
        assert lost_after_s < 2
    assert lost_after_s > SILENCE_MS_MAX / 1000 - 0.1
    assert not pair.one.send(2, b"stale"), "nothing is queued for it"
    # The other one was stopped and goes on: it finds its own connection ended, and both greet anew.
    pair.work(pair.connected)
    assert pair.one.send(2, b"fresh")
    received: list[bytes] = []

    def came() -> bool:
        received.extend(bytes(body) for _, body in pair.two.receive(100))
        return bool(received)

    pair.work(came, nodes=(pair.one,))
    assert received == [b"fresh"]


def test_a_node_that_stood_still_itself_gives_nobody_up(pair: Pair) -> None:
    pair.clock.now_s += 3_600
    pair.one.tend()
    pair.two.tend()
    assert STEP_S_MAX * 1000 < SILENCE_MS_MAX
    assert pair.connected()


def test_both_learn_of_a_connection_that_was_cut(pair: Pair) -> None:
    pair.one._inbound.forget(2)
    assert pair.one.connected() == set()
    pair.work(pair.connected)
