"""The guard looks when there is something to see, not more often than its pace, and tells what it did."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from raftactors.actors.guard import SUSPICIOUS_PACE_S, ConnectionGuard, GuardWaiter
from raftactors.actors.mailbox import Mailbox
from raftactors.actors.messages import GuardReport
from raftactors.config import Limits
from raftactors.transport.allowance import client_allowance
from raftactors.transport.listener import Listener
from raftactors.transport.options import client_endpoint_options
from tests.transport.zmtp import MORE, Stranger, frame

DEADLINE_S = 20.0


@pytest.fixture
def listener() -> Iterator[Listener]:
    limits = Limits()
    with zmq.Context[Any]() as context:
        options, allowance = client_endpoint_options(limits), client_allowance(limits)
        made = Listener(context, name="address", address="127.0.0.1:0", options=options, allowance=allowance)
        yield made
        made.close()


def reports(monitor: Mailbox) -> list[GuardReport]:
    return list(monitor.get().message.messages)


def test_a_bomb_is_cut_by_a_guard_that_nobody_wakes_and_the_monitor_hears_of_it(listener: Listener) -> None:
    accounts = {"clients": listener.account}
    waiter, monitor = GuardWaiter(accounts), Mailbox("monitor", messages_max=10)
    mailbox = Mailbox("guard", messages_max=10, waiter=waiter)
    guard = ConnectionGuard.start(mailbox, accounts=accounts, waiter=waiter, monitor=monitor)
    try:
        with Stranger(listener.address) as bomb:
            while bomb.send(frame(bytes(100_000), MORE)):
                listener.take()
        found: list[GuardReport] = []
        while not found or found[-1].open["clients"]:
            found += reports(monitor)
        # How much comes between two looks decides which of the two is seen first.
        assert found[-1].cut in ({"clients": {"unfinished": 1}}, {"clients": {"backlog": 1}})
    finally:
        guard.stop()
        waiter.close()


def test_looks_keep_their_pace_however_much_comes(listener: Listener) -> None:
    accounts = {"clients": listener.account}
    waiter, monitor = GuardWaiter(accounts), Mailbox("monitor", messages_max=10)
    mailbox = Mailbox("guard", messages_max=10, waiter=waiter)
    guard = ConnectionGuard.start(mailbox, accounts=accounts, waiter=waiter, monitor=monitor)
    try:
        began_s = time.monotonic()
        with Stranger(listener.address) as busy:
            while time.monotonic() < began_s + 25 * SUSPICIOUS_PACE_S:
                busy.send(frame(b"x"))
                listener.take()
        looks = mailbox.batches
        assert looks <= (time.monotonic() - began_s) / SUSPICIOUS_PACE_S + 3
    finally:
        guard.stop()
        waiter.close()
