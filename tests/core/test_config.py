"""Feature row A1: every rule of the configuration refuses with a text of its own."""

from __future__ import annotations

from typing import Any

import pytest

from raftactors.core.config import ReadOnlyOption
from raftactors.core.storage import MemoryStorage
from raftactors.core.types import APPEND_THREAD, APPLY_THREAD, UNLIMITED
from raftactors.errors import ConfigError
from tests.core.network import make_config, make_node


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"node_id": 0}, "node_id is 0"),
        ({"node_id": APPEND_THREAD}, "storage threads"),
        ({"node_id": APPLY_THREAD}, "storage threads"),
        ({"node_id": 2**64}, "node_id is"),
        ({"heartbeat_ticks": 0}, "heartbeat_ticks is 0"),
        ({"election_ticks": 1}, "election_ticks is 1; it must exceed heartbeat_ticks"),
        ({"inflight_messages_max": 0}, "inflight_messages_max is 0"),
        ({"inflight_bytes_max": 9, "bytes_per_message_max": 10}, "inflight_bytes_max is 9"),
        ({"inflight_bytes_max": 9}, "inflight_bytes_max is 9"),
        ({"read_only_option": ReadOnlyOption.LEASE_BASED}, "a lease needs check_quorum"),
        ({"applied": -1}, "applied is -1"),
        ({"bytes_per_message_max": -1}, "bytes_per_message_max is -1"),
        ({"inflight_bytes_max": -1}, "inflight_bytes_max is -1"),
        ({"uncommitted_bytes_max": -1}, "uncommitted_bytes_max is -1"),
        ({"committed_bytes_per_ready_max": -1}, "committed_bytes_per_ready_max is -1"),
    ],
)
def test_each_rule_has_its_own_refusal(overrides: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_config(overrides.pop("node_id", 1), MemoryStorage(), **overrides)


def test_limits_of_zero_mean_what_the_docstring_says() -> None:
    raft = make_node(bytes_per_message_max=100).raft
    assert raft.log.applying_bytes_max == 100
    assert raft.uncommitted_bytes_max == UNLIMITED
    assert raft.tracker.inflight_bytes_max == UNLIMITED


def test_one_entry_a_message_still_hands_committed_entries_out() -> None:
    assert make_node(bytes_per_message_max=0).raft.log.applying_bytes_max == 1


def test_jitter_replaces_the_random_draw() -> None:
    asked: list[tuple[int, int]] = []

    def jitter(node_id: int, term: int) -> int:
        asked.append((node_id, term))
        return 7

    node = make_node(2, election_jitter=jitter)
    assert node.raft.randomized_election_timeout_ticks == 17
    assert asked == [(2, 1)]
    node.campaign()
    assert asked == [(2, 1), (2, 2)]


def test_timeouts_fill_the_range_and_nothing_else() -> None:
    drawn = set()
    node = make_node()
    for _ in range(300):
        node.raft.become_follower(1, 0)
        drawn.add(node.raft.randomized_election_timeout_ticks)
    assert drawn == set(range(10, 20))
