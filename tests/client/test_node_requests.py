"""Requests to one node: a node that was restarted while it owed an answer is greeted and asked again."""

from __future__ import annotations

import random

from raftactors.client.node_requests import NodeRequests
from raftactors.client.options import ClientOptions
from raftactors.client.reply import Reply
from raftactors.client.route import Route
from raftactors.codec import replies
from raftactors.codec.frames import Welcome
from raftactors.errors import UnknownOutcomeError

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
