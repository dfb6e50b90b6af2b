"""Requests to one node: a node that was restarted while it owed an answer is greeted and asked again."""

from __future__ import annotations

import random

from raftactors.client.node_requests import RETRY_MS, NodeRequests
from raftactors.client.options import ClientOptions
from raftactors.client.reply import Reply
from raftactors.client.route import Route
from raftactors.codec import replies
from raftactors.codec.frames import Welcome
from raftactors.errors import RejectedError, UnknownOutcomeError

ADDRESSES = ["127.0.0.1:1", "127.0.0.1:2"]
SILENCE_MS = ClientOptions().silence_ms
MEMBERS = [(1, ADDRESSES[0]), (2, ADDRESSES[1])]


class Rig:
    def __init__(self) -> None:
        self.route = Route(ADDRESSES, options=ClientOptions(), random_source=random.Random(1))
        self.requests = NodeRequests(self.route, 8, SILENCE_MS)
        self.now_ms = 1_000
        for node_id in (1, 2):
            self.welcome(node_id, incarnation=1)

    def welcome(self, node_id: int, *, incarnation: int) -> None:
        welcome = Welcome(node_id, 1, MEMBERS, {}, "app", 7)
        self.route.poll(self.now_ms)
        self.route.welcome(ADDRESSES[node_id - 1], welcome, incarnation, self.now_ms)

    def asked(self) -> list[str]:
        return [address for address, _, _ in self.requests.poll(self.now_ms)]

    def greeted(self) -> list[str]:
        return self.route.poll(self.now_ms)


def test_a_named_node_that_is_silent_is_greeted_and_asked_again_after_its_welcome() -> None:
    rig, reply = Rig(), Reply(b"", 60_000)
    rig.requests.ask(ADDRESSES[1], "status", [], reply)
    assert rig.asked() == [ADDRESSES[1]]
    rig.now_ms += SILENCE_MS - 1
    assert rig.asked() == []
    rig.now_ms += 1
    assert rig.asked() == []
    assert ADDRESSES[1] in rig.greeted()
    rig.welcome(2, incarnation=2)
    ((address, request, _),) = rig.requests.poll(rig.now_ms)
    assert address == ADDRESSES[1]
    rig.requests.receive(request, replies.encode_document(1, {"fine": True}), rig.now_ms)
    assert reply.get() == {"fine": True}


def test_waiting_for_a_welcome_is_not_a_busy_loop() -> None:
    rig, reply = Rig(), Reply(b"", 60_000)
    rig.requests.ask(ADDRESSES[1], "status", [], reply)
    rig.asked()
    rig.now_ms += SILENCE_MS
    rig.asked()
    wakeup_ms = rig.requests.next_wakeup_ms()
    assert wakeup_ms is not None
    assert wakeup_ms > rig.now_ms


def test_a_node_that_stays_silent_ends_the_request_at_its_deadline() -> None:
    rig, reply = Rig(), Reply(b"", 5_000)
    rig.requests.ask(ADDRESSES[1], "status", [], reply)
    for rig.now_ms in range(1_000, 5_001, 100):
        rig.asked()
    assert isinstance(reply.error(), UnknownOutcomeError)


def test_a_node_that_owes_an_answer_for_a_third_of_a_short_time_is_greeted_and_asked_again() -> None:
    rig, reply = Rig(), Reply(b"", 1_600)
    rig.requests.ask(ADDRESSES[1], "status", [], reply)
    rig.asked()
    rig.now_ms += 199
    assert rig.asked() == [] and rig.greeted() == []
    rig.now_ms += 1
    assert rig.asked() == [] and rig.greeted() == [ADDRESSES[1]]
    rig.welcome(2, incarnation=2)
    assert rig.asked() == [ADDRESSES[1]]


def test_a_request_that_ends_without_an_answer_makes_the_next_one_greet_first() -> None:
    rig, reply = Rig(), Reply(b"", 1_010)
    rig.requests.ask(ADDRESSES[1], "status", [], reply)
    assert rig.asked() == [ADDRESSES[1]]
    rig.now_ms += 10
    rig.asked()
    assert reply.done()
    assert rig.greeted() == [], "nobody waits for it"
    rig.requests.ask(ADDRESSES[1], "status", [], Reply(b"", 1_020))
    assert rig.asked() == [] and rig.greeted() == [ADDRESSES[1]]


def test_a_new_incarnation_is_asked_at_once_what_the_earlier_one_was() -> None:
    rig, reply = Rig(), Reply(b"", 60_000)
    rig.requests.ask(ADDRESSES[1], "status", [], reply)
    rig.asked()
    rig.welcome(2, incarnation=1)
    assert rig.asked() == []
    rig.welcome(2, incarnation=2)
    assert rig.asked() == [ADDRESSES[1]]


def test_what_did_not_leave_is_asked_after_a_greeting() -> None:
    rig, reply = Rig(), Reply(b"", 60_000)
    rig.requests.ask(ADDRESSES[1], "status", [], reply)
    ((_, request, _),) = rig.requests.poll(rig.now_ms)
    rig.requests.unsent(request, rig.now_ms)
    rig.now_ms += RETRY_MS
    assert rig.asked() == [] and rig.greeted() == [ADDRESSES[1]]


def test_a_refusal_by_another_incarnation_leaves_open_what_the_first_one_did() -> None:
    for incarnation, kind in ((1, RejectedError), (2, UnknownOutcomeError)):
        rig, reply = Rig(), Reply(b"", 60_000)
        rig.requests.ask(ADDRESSES[1], "transfer_leader", [2], reply)
        rig.asked()
        rig.now_ms += SILENCE_MS
        rig.asked()
        rig.welcome(2, incarnation=incarnation)
        ((_, request, _),) = rig.requests.poll(rig.now_ms)
        rig.requests.receive(request, replies.encode_rejected(2, "node 2 leads already"), rig.now_ms)
        assert type(reply.error()) is kind
        assert "node 2 leads already" in str(reply.error())


def test_greetings_of_a_node_end_with_the_last_request_to_it() -> None:
    rig, replies_of_it = Rig(), [Reply(b"", 2_100), Reply(b"", 2_200)]
    for reply in replies_of_it:
        rig.requests.ask(ADDRESSES[1], "status", [], reply)
    rig.asked()
    rig.now_ms = 2_100
    rig.asked()
    assert rig.greeted() == [ADDRESSES[1]]
    rig.now_ms = 2_500
    rig.asked()
    assert all(reply.done() for reply in replies_of_it)
    assert rig.greeted() == []
