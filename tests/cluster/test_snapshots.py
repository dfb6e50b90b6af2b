"""Snapshots in real node processes: compaction, catching up, restarts, heartbeats beside a transfer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from raftactors.client import Client
from raftactors.cluster.local import LocalCluster
from raftactors.config import Limits, RaftTiming
from raftactors.errors import RejectedError

QUICK = RaftTiming(tick_ms=20)
SMALL = Limits(segment_bytes=64 * 1024, snapshot_entries=40, trailing_entries=5, snapshot_chunk_bytes=4096)
TIMEOUT_S = 30.0


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    """Ask again and again; every look is an answer of a node, so no time is guessed."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about within {TIMEOUT_S} s"


def status(client: Client, node: int) -> dict[str, Any]:
    document: dict[str, Any] = client.admin("status", node=node)
    return document


def fill(client: Client, start: int, count: int, size: int = 500) -> None:
    for number in range(start, start + count):
        client.kv.put(f"key-{number}", bytes([number % 256]) * size)


def digests(client: Client, nodes: int) -> list[Any]:
    """(applied, digest) of every node, taken when all have applied the same."""
    last = max(status(client, node)["commit"] for node in range(1, nodes + 1))
    wait_for("equal applied indexes", lambda: all(status(client, n)["applied"] >= last for n in range(1, nodes + 1)))
    return [client.admin("state_digest", node=node) for node in range(1, nodes + 1)]


@contextmanager
def cluster_of(nodes: int, limits: Limits, **options: Any) -> Iterator[tuple[LocalCluster, Client]]:
    with LocalCluster(nodes, timing=QUICK, limits=limits, **options) as cluster, cluster.client() as client:
        cluster.wait_leader()
        yield cluster, client


def test_a_follower_that_the_log_has_left_behind_catches_up_by_snapshot() -> None:
    with cluster_of(3, SMALL) as (cluster, client):
        fill(client, 0, 20)
        leader = cluster.wait_leader()
        victim = next(node for node in cluster.nodes if node != leader)
        cluster.kill(victim)
        fill(client, 20, 150)
        held = status(client, victim % 3 + 1)["last_index"]
        wait_for("compaction", lambda: status(client, cluster.wait_leader())["first_index"] > held - 100)
        assert status(client, cluster.wait_leader())["snapshot"]["index"] > 60
        cluster.restart(victim)
        wait_for("the snapshot", lambda: status(client, victim)["snapshot"]["index"] > held - 100)
        found = digests(client, 3)
        assert len({document["state_digest"] for document in found}) == 1, found
        # It goes on as a full member: with the other follower dead, writes need it.
        cluster.kill(next(node for node in cluster.nodes if node not in {victim, cluster.wait_leader()}))
        fill(client, 200, 5)
        assert client.kv.get("key-204") == bytes([204]) * 500


def test_a_restarted_cluster_starts_from_its_snapshots_and_old_segments_are_gone(tmp_path: Path) -> None:
    with cluster_of(3, SMALL, data_dir=tmp_path) as (_, client):
        fill(client, 0, 300, size=2_000)
        assert len({document["state_digest"] for document in digests(client, 3)}) == 1
    for node in (1, 2, 3):
        folder = tmp_path / f"node-{node}" / "data"
        assert len(list((folder / "snap").iterdir())) == 2
        segments = sorted(path.name for path in (folder / "wal").glob("*.wal"))
        assert int(segments[0].partition("-")[0], 16) > 1, segments
    with cluster_of(3, SMALL, data_dir=tmp_path) as (_, client):
        assert status(client, 1)["snapshot"]["index"] > 100
        assert len({document["state_digest"] for document in digests(client, 3)}) == 1
        assert client.query("count") == 300
        assert client.kv.get("key-299") == bytes([43]) * 2_000


def test_a_snapshot_is_taken_on_demand() -> None:
    with cluster_of(1, Limits()) as (_, client):
        fill(client, 0, 5)
        document = client.admin("snapshot", node=1)
        assert document["index"] >= 6
        assert status(client, 1)["snapshot"] == {**document, "error": ""}
        again = client.admin("snapshot", node=1)
        assert again["index"] == document["index"], "nothing was applied in between"
        with pytest.raises(RejectedError):
            client.admin("snapshots", node=1)


@dataclass
class BesideTransfer:
    """What went on while a snapshot travelled: reads, and the longest silence of the leader at each follower."""

    read_ms: list[float] = field(default_factory=list)
    silence_ticks: dict[int, int] = field(default_factory=dict)
    same_leader: bool = False


@contextmanager
def reads_beside(cluster: LocalCluster, node: int, read_ms: list[float]) -> Iterator[None]:
    """Read from `node` without a pause while the block runs; `read_ms` gets what each took."""
    done = threading.Event()

    def read() -> None:
        with Client([cluster.addresses[node]], cluster_id=cluster.cluster_id) as client:
            while not done.is_set():
                started = time.perf_counter()
                client.query("get", "none")
                read_ms.append((time.perf_counter() - started) * 1_000)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            yield
        finally:
            done.set()
        reading.result()


def run_beside_a_transfer(mebibytes: int) -> BesideTransfer:
    """Bring a member back by a snapshot of this size, and read meanwhile.

    A linearizable read waits for one round of heartbeats, so it takes as long as they are late; what the followers
    saw of the leader they tell themselves. The reads have a thread and a client of their own, and begin before the
    member is back: what is asked of that one may wait until the snapshot has arrived.
    """
    value, count, found = b"v" * 65_536, mebibytes * 16, BesideTransfer()
    limits = Limits(snapshot_entries=20, trailing_entries=1, trailing_bytes=1, snapshot_bytes_per_second=32 * 2**20)
    with cluster_of(3, limits) as (cluster, client):
        leader = cluster.wait_leader()
        victim = next(node for node in cluster.nodes if node != leader)
        cluster.kill(victim)
        for start in range(0, count, 32):
            replies = [client.submit("put", f"k{number}", value) for number in range(start, min(start + 32, count))]
            for reply in replies:
                reply.get()
        held = client.admin("snapshot", node=leader)["index"]
        wait_for("compaction", lambda: status(client, leader)["first_index"] > held - 5)
        term = status(client, leader)["term"]
        with reads_beside(cluster, leader, found.read_ms):
            cluster.restart(victim)
            wait_for("the snapshot", lambda: bool(status(client, victim)["applied"] >= held))
        followers = [node for node in cluster.nodes if node != leader]
        found.silence_ticks = {node: status(client, node)["leader_silence_ticks_max"] for node in followers}
        found.same_leader = status(client, leader)["term"] == term
    return found


@pytest.mark.long
@pytest.mark.parametrize("mebibytes", [16, pytest.param(256, marks=[pytest.mark.nightly, pytest.mark.timeout(900)])])
def test_heartbeats_do_not_wait_behind_a_transfer(mebibytes: int) -> None:
    found = run_beside_a_transfer(mebibytes)
    slowest = sorted(found.read_ms)
    print(
        f"{mebibytes} MiB: {len(slowest)} reads, median {slowest[len(slowest) // 2]:.1f} ms, slowest "
        f"{slowest[-1]:.1f} ms; longest silence of the leader, in ticks of {QUICK.tick_ms} ms: {found.silence_ticks}"
    )
    assert found.same_leader, "the followers missed heartbeats"
    assert len(slowest) > 5
    assert all(0 < ticks < QUICK.election_ticks for ticks in found.silence_ticks.values()), found.silence_ticks


@pytest.mark.long
def test_a_transfer_survives_the_death_of_either_side() -> None:
    slow = Limits(
        snapshot_entries=30, trailing_entries=1, snapshot_chunk_bytes=16_384, snapshot_bytes_per_second=1_500_000
    )
    with cluster_of(3, slow) as (cluster, client):
        leader = cluster.wait_leader()
        victim, other = (node for node in cluster.nodes if node != leader)
        cluster.kill(victim)
        fill(client, 0, 50, size=100_000)
        snapshots = [client.admin("snapshot", node=node)["index"] for node in (leader, other)]
        wait_for("compaction", lambda: status(client, other)["first_index"] > min(snapshots) - 5)

        def is_receiving() -> bool:
            receiving = status(client, victim)["snapshot_transfers"]["receiving"]
            return receiving is not None and receiving["received_bytes"] > 300_000

        cluster.restart(victim)
        wait_for("the first half", is_receiving)
        cluster.kill(victim)
        cluster.restart(victim)
        wait_for("the transfer that goes on", is_receiving)
        assert status(client, victim)["applied"] < 50
        cluster.kill(cluster.wait_leader())
        wait_for("the snapshot", lambda: status(client, victim)["applied"] >= min(snapshots))
        fill(client, 100, 2)
        cluster.restart(leader)
        found = digests(client, 3)
        assert len({document["state_digest"] for document in found}) == 1, found
