"""What operators ask of real nodes: handing the leadership over, the status of nodes that come and go, names."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from raftactors import Application, LocalCluster, RaftTiming, command, query
from raftactors.client import Client
from raftactors.errors import ConfigError, RejectedError

DEADLINE_S = 60
TIMING = RaftTiming(tick_ms=20)


class Locks(Application):
    """Arguments that are called like options of a request."""

    @command
    def lock(self, name: str, timeout_ms: int = -1) -> int:
        """The time that was given."""
        return timeout_ms

    @query
    def look(self, level: str = "own default") -> str:
        """The level that was given."""
        return level


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3, Locks, timing=TIMING, start_timeout_ms=120_000) as cluster:
        cluster.wait_leader(60_000)
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client(timeout_ms=30_000) as client:
        yield client


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def others(node_id: int) -> tuple[int, int]:
    return node_id % 3 + 1, (node_id + 1) % 3 + 1


def test_names_reach_the_methods_of_a_real_node(client: Client) -> None:
    assert client.call("lock", "a", timeout_ms=20_000) == 20_000
    assert client.query("look", level="brown", timeout_ms=20_000) == "brown"
    assert client.with_options(timeout_ms=20_000).call("lock", "a", timeout_ms=5) == 5


def test_the_leadership_goes_where_it_is_sent_or_the_answer_says_why_not(cluster: LocalCluster, client: Client) -> None:
    with pytest.raises(RejectedError, match="node 9 is no voter; the voters are 1, 2, 3"):
        client.admin("transfer_leader", 9)
    with pytest.raises(ConfigError, match="its nodes are 1, 2, 3"):
        client.admin("status", node=9)
    leader = cluster.wait_leader(60_000)
    target, bystander = others(leader)
    with pytest.raises(RejectedError, match=f"node {leader} leads already"):
        client.admin("transfer_leader", leader, node=leader)
    assert client.admin("transfer_leader", target, node=leader) is True
    until(lambda: cluster.leader() == target, "the target does not lead")
    assert client.admin("transfer_leader", leader, node=bystander) is True
    until(lambda: cluster.leader() == leader, "the target does not lead")
    cluster.pause(target)
    try:
        # Known to be silent it is only after a while; until then it is tried.
        for reason in (r"did not take over|was silent", "was silent"):
            with pytest.raises(RejectedError, match=rf"node {target} ({reason}).*node {leader} leads"):
                client.admin("transfer_leader", target, node=leader)
        with pytest.raises(RejectedError, match=f"node {target} did not take over"):
            client.admin("transfer_leader", target, node=bystander)
        assert client.call("lock", "a") == -1
    finally:
        cluster.resume(target)


def test_a_restarted_node_is_reached_by_a_short_status(cluster: LocalCluster, client: Client) -> None:
    for node in (1, 2, 3):
        until(lambda: "error" not in client.status()[node], "a node does not answer")  # noqa: B023  # at once
        cluster.kill(node)
        cluster.restart(node)
        until(lambda: node in cluster.node_statuses(), "the node does not come back")  # noqa: B023  # at once
        documents = [client.status(timeout_ms=600).get(node, {"error": ""}) for _ in range(3)]
        assert "error" not in documents[-1]
