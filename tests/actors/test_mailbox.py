"""The mailbox: lanes, bounds, batches, and waking the owner."""

from __future__ import annotations

import threading
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope

from raftactors.actors.mailbox import Batch, Lane, Mailbox
from raftactors.errors import ConfigError


def messages_of(mailbox: Mailbox) -> list[object]:
    batch = mailbox.get().message
    assert isinstance(batch, Batch)
    return batch.messages


def test_a_batch_holds_everything_that_waits_first_lane_first() -> None:
    mailbox = Mailbox("m", messages_max=10)
    mailbox.tell("client", Lane.CLIENTS)
    mailbox.tell("peer", Lane.PEERS)
    mailbox.tell("ack", Lane.STORAGE)
    mailbox.tell("tick", Lane.CONTROL)
    assert messages_of(mailbox) == ["tick", "ack", "peer", "client"]


def test_a_batch_is_cut_at_its_limit_and_the_rest_comes_next() -> None:
    mailbox = Mailbox("m", messages_max=10, batch_max=3)
    for number in range(5):
        mailbox.tell(number, Lane.PEERS)
    assert messages_of(mailbox) == [0, 1, 2]
    assert messages_of(mailbox) == [3, 4]


@pytest.mark.parametrize("lane", [Lane.PEERS, Lane.CLIENTS])
def test_a_full_lane_of_peers_or_clients_refuses_and_counts(lane: Lane) -> None:
    mailbox = Mailbox("m", messages_max=2)
    assert [mailbox.tell(number, lane) for number in range(3)] == [True, True, False]
    assert mailbox.refused == 1
    assert messages_of(mailbox) == [0, 1]


@pytest.mark.parametrize("lane", [Lane.CONTROL, Lane.STORAGE])
def test_control_and_storage_are_never_refused(lane: Lane) -> None:
    mailbox = Mailbox("m", messages_max=2)
    assert all(mailbox.tell(number, lane) for number in range(50))
    assert mailbox.waiting() == 50


def test_a_flood_of_clients_does_not_delay_a_tick() -> None:
    mailbox = Mailbox("m", messages_max=1000, batch_max=100)
    for number in range(1000):
        mailbox.tell(number, Lane.CLIENTS)
    mailbox.tell("tick", Lane.CONTROL)
    assert messages_of(mailbox)[0] == "tick"


def test_pykka_envelopes_are_handed_over_alone_and_before_client_work() -> None:
    mailbox = Mailbox("m", messages_max=10)
    mailbox.tell("client", Lane.CLIENTS)
    stop: Envelope[str] = Envelope("stop")
    mailbox.put(stop)
    assert mailbox.get() is stop
    assert messages_of(mailbox) == ["client"]
    assert mailbox.empty()


def test_an_idle_timeout_hands_over_an_empty_batch() -> None:
    mailbox = Mailbox("m", messages_max=10, idle_timeout_s=0.001)
    assert messages_of(mailbox) == []


@pytest.mark.parametrize(("messages_max", "batch_max"), [(0, 1), (1, 0)])
def test_limits_are_checked_at_construction(messages_max: int, batch_max: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Mailbox("m", messages_max=messages_max, batch_max=batch_max)


def test_no_message_is_lost_between_tellers_and_a_sleeping_owner() -> None:
    mailbox = Mailbox("m", messages_max=100_000)
    per_teller, tellers = 5_000, 4
    seen: list[Any] = []

    def own() -> None:
        while len(seen) < per_teller * tellers:
            seen.extend(messages_of(mailbox))

    def tell(teller: int) -> None:
        for number in range(per_teller):
            assert mailbox.tell((teller, number), Lane.PEERS)

    threads = [threading.Thread(target=own)] + [threading.Thread(target=tell, args=(n,)) for n in range(tellers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for teller in range(tellers):
        assert [n for t, n in seen if t == teller] == list(range(per_teller))


def test_a_pykka_actor_takes_batches_from_it() -> None:
    seen: list[object] = []
    got_all = threading.Event()

    class Collector(pykka.ThreadingActor):
        def _create_actor_inbox(self) -> Mailbox:  # type: ignore[override]
            return mailbox

        def on_receive(self, message: object) -> None:
            assert isinstance(message, Batch)
            seen.extend(message.messages)
            if len(seen) == 3:
                got_all.set()

    mailbox = Mailbox("m", messages_max=10)
    ref = Collector.start()
    for number in range(3):
        mailbox.tell(number, Lane.PEERS)
    assert got_all.wait(10)
    assert ref.stop(timeout=10)
    assert seen == [0, 1, 2]
