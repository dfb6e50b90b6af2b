"""Finding the leader: greetings, hints, doubts, moves. Time is a number."""

from __future__ import annotations

import random
from typing import Any

import pytest

from raftactors.client.options import ClientOptions
from raftactors.client.route import ENDPOINTS_MAX, GREETING_RETRY_MS, Route
from raftactors.codec.frames import Welcome
from raftactors.errors import ConfigError

OPTIONS = ClientOptions(probe_ms=100, silence_ms=1_000)
NODES = {1: "a:1", 2: "b:1", 3: "c:1"}


def new_route(*addresses: str, cluster_id: int | None = None) -> Route:
    return Route(addresses or ("a:1",), options=OPTIONS, random_source=random.Random(1), cluster_id=cluster_id)


def welcome(node_id: int, leader_id: int, *, cluster_id: int = 7, members: dict[int, str] | None = None) -> Welcome:
    return Welcome(node_id, leader_id, list((members or NODES).items()), {}, "test:App", cluster_id)


def target(route: Route) -> str:
    """The address that is ready to be sent to, or nothing."""
    return route.ready.address if route.ready is not None else ""


def refusal(route: Route) -> str:
    """Why nothing can be sent, or nothing."""
    return str(route.refusal or "")


def led_by(node_id: int) -> Route:
    """A route that has found its leader."""
    route = new_route()
    route.poll(0)
    route.welcome("a:1", welcome(1, node_id), 1, 0)
    if node_id != 1:
        route.welcome(NODES[node_id], welcome(node_id, node_id), 1, 0)
    assert target(route) == NODES[node_id]
    return route


def test_the_leader_is_learned_from_any_node() -> None:
    route = new_route()
    assert route.poll(0) == ["a:1"]
    route.welcome("a:1", welcome(1, 3), 1, 0)
    assert target(route) == "", "the leader has not answered yet"
    assert route.poll(0) == ["c:1"]
    route.welcome("c:1", welcome(3, 3), 1, 1)
    assert target(route) == "c:1"
    assert route.leader_id == 3
    assert route.poll(2) == [] and route.next_wakeup_ms() is None


def test_a_quiet_first_address_is_not_waited_for() -> None:
    route = new_route("a:1", "b:1", "c:1")
    first = route.poll(0)
    others = route.poll(100) + route.poll(200)
    assert sorted(set(first + others)) == ["a:1", "b:1", "c:1"]
    route.welcome(others[0], welcome(2, 0), 1, 210)
    assert target(route) == others[0]


def test_an_unsent_greeting_is_tried_again_soon_and_an_unanswered_one_later() -> None:
    route = new_route()
    assert route.poll(0) == ["a:1"]
    assert route.poll(GREETING_RETRY_MS - 1) == []
    assert route.poll(GREETING_RETRY_MS) == ["a:1"]
    route.unsent("a:1", GREETING_RETRY_MS)
    assert route.poll(GREETING_RETRY_MS + 5) == ["a:1"]


def test_a_silent_node_is_left_and_its_name_as_leader_not_believed_for_a_while() -> None:
    route = led_by(1)
    generation = route.generation
    route.abandon(generation, 5_000)
    assert route.generation == generation + 1 and target(route) == ""
    (next_address,) = route.poll(5_000)
    node_id = next(node_id for node_id, address in NODES.items() if address == next_address)
    route.welcome(next_address, welcome(node_id, 1), 1, 5_001)
    assert target(route) == NODES[node_id]
    route.hint(1, 5_500)
    assert target(route) == NODES[node_id]
    route.hint(1, 7_100)
    assert route.poll(7_100) == ["a:1"], "after two silences it is believed again"


def test_two_sessions_that_miss_the_same_answer_leave_once() -> None:
    route = led_by(1)
    generation = route.generation
    route.abandon(generation, 5_000)
    route.abandon(generation, 5_000)
    assert route.generation == generation + 1


def test_doubt_asks_the_others_and_believes_them() -> None:
    route = led_by(1)
    route.doubt(1_000)
    asked = set(route.poll(1_000) + route.poll(1_100) + route.poll(1_200))
    assert {"b:1", "c:1"} <= asked
    route.welcome("b:1", welcome(2, 3), 1, 1_250)
    route.welcome("c:1", welcome(3, 3), 1, 1_260)
    assert target(route) == NODES[3]


def test_without_doubt_a_late_welcome_moves_nothing() -> None:
    route = led_by(1)
    route.doubt(1_000)
    route.poll(1_000)
    route.settled()
    route.welcome("b:1", welcome(2, 2), 1, 1_250)
    assert target(route) == NODES[1]


def test_a_node_that_only_hands_on_is_kept_until_the_leader_has_answered() -> None:
    route = led_by(1)
    route.settled()
    generation = route.generation
    route.hint(3, 1_000)
    route.settled()
    assert target(route) == "a:1" and route.generation == generation, "it works, so nothing is sent again yet"
    assert "c:1" in route.poll(1_000)
    route.welcome("c:1", welcome(3, 3), 1, 1_001)
    assert target(route) == "c:1"
    route.settled()
    assert route.poll(2_000) == [] and route.poll(3_000) == []


def test_a_node_that_no_longer_leads_is_no_heir() -> None:
    route = led_by(1)
    route.settled()
    route.hint(3, 1_000)
    route.welcome("c:1", welcome(3, 1), 1, 1_001)
    assert target(route) == "a:1" and route.leader_id == 1


def test_a_follower_that_serves_is_asked_who_leads_until_it_is_known() -> None:
    route = led_by(1)
    route.settled()
    route.abandon(route.generation, 5_000)
    (address,) = route.poll(5_000)
    node_id, other_id = (2, 3) if address == "b:1" else (3, 2)
    route.welcome(address, welcome(node_id, 1), 1, 5_001)
    route.settled()
    assert target(route) == address
    assert NODES[other_id] in [greeted for now_ms in (5_200, 5_400, 5_600) for greeted in route.poll(now_ms)]
    route.welcome(NODES[other_id], welcome(other_id, other_id), 1, 5_601)
    assert target(route) == NODES[other_id]


def test_a_restarted_node_has_lost_what_was_sent_to_it() -> None:
    route = led_by(1)
    generation = route.generation
    route.welcome("a:1", welcome(1, 1), 1, 10)
    assert route.generation == generation
    route.welcome("a:1", welcome(1, 1), 2, 20)
    assert route.generation == generation + 1


def test_a_foreign_cluster_is_refused_with_both_names() -> None:
    route = new_route("a:1", "b:1", cluster_id=9)
    (address,) = route.poll(0)
    route.welcome(address, welcome(1, 1), 1, 0)
    assert target(route) == ""
    assert refusal(route) == "", "the other address may still be right"
    (other,) = route.poll(0)
    assert other != address
    route.welcome(other, welcome(1, 1, cluster_id=8), 1, 1)
    assert "belongs to cluster 7, not to 9" in refusal(route) and "cluster 8" in refusal(route)


def test_the_first_cluster_that_answers_is_the_only_one() -> None:
    route = led_by(1)
    assert route.cluster_id == 7
    route.doubt(0)
    route.welcome("b:1", welcome(2, 2, cluster_id=8), 1, 0)
    assert target(route) == NODES[1]


def test_members_without_a_usable_address_are_left_out_and_their_number_is_bounded() -> None:
    route = new_route()
    route.poll(0)
    members = {node_id: f"host{node_id}:1" for node_id in range(2, 500)} | {1: "a:1", 501: "no address"}
    route.welcome("a:1", welcome(1, 1, members=members), 1, 0)
    assert len(route.addresses()) == ENDPOINTS_MAX
    assert "no address" not in route.addresses()


@pytest.mark.parametrize("addresses", [[], "a:1", ["a"], [1], ["a:99999"], [f"a:{port}" for port in range(1, 99)]])
def test_addresses_are_checked(addresses: Any) -> None:
    with pytest.raises(ConfigError):
        Route(addresses, options=OPTIONS, random_source=random.Random(1))


@pytest.mark.parametrize("cluster_id", [0, -1, 2**63])
def test_the_cluster_id_is_checked(cluster_id: int) -> None:
    with pytest.raises(ConfigError, match="cluster_id"):
        new_route("a:1", cluster_id=cluster_id)
