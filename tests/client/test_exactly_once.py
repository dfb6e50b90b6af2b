"""However bad the network and the nodes are: executed at most once, in order, and what failed for good never."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftactors.client.reply import Reply
from raftactors.config import Limits
from raftactors.errors import (
    ClusterUnreachableError,
    RejectedError,
    SessionExpiredError,
    UnknownOutcomeError,
)
from tests.client.simulated_cluster import POISON, Faults, SimulatedCluster

GOOD = Faults()
BAD = Faults(
    lose=0.1,
    double=0.1,
    delay_ms_max=40,
    busy=0.1,
    retry_before=0.1,
    retry_after=0.1,
    move_leader=0.05,
    node_down=0.02,
)
WITH_EXPIRY = BAD._replace(expire_session=0.02)
EXPIRY_GRAIN_MS = 10


def check(cluster: SimulatedCluster, submitted: list[tuple[int, int, Reply]]) -> dict[str, int]:
    """Compare what callers were told with what was executed; returns how often each end came."""
    executed = cluster.journal.executed
    assert len(set(executed)) == len(executed), "a command was executed twice"
    assert executed == sorted(executed), "commands were executed out of their order"
    places = {number: place for place, number in enumerate(executed, 1)}
    ends: dict[str, int] = {}
    for number, _, reply in submitted:
        assert reply.done(), f"command {number} has no end"
        error = reply.error()
        ends[type(error).__name__] = ends.get(type(error).__name__, 0) + 1
        if error is None:
            assert reply.get(0) == places[number], "a result of another command"
        elif isinstance(error, UnknownOutcomeError | SessionExpiredError):
            assert not error.retry_safe
        else:
            assert isinstance(error, RejectedError | ClusterUnreachableError)
            assert number not in places, f"command {number} was executed after {error!r}"
    return ends


def load(cluster: SimulatedCluster, *, count: int, spread_ms: int, poison: float = 0.0) -> list[tuple[int, int, Reply]]:
    """Submit numbered commands at random times with random deadlines."""
    rng = random.Random(cluster.random.random())
    submitted: list[tuple[int, int, Reply]] = []
    times = sorted(rng.randint(0, spread_ms) for _ in range(count))
    for number, time_ms in enumerate(times):
        timeout_ms = rng.choice([50, 300, 2_000, 30_000])
        padding = POISON if rng.random() < poison else bytes(rng.randint(0, 40))

        def action(number: int = number, timeout_ms: int = timeout_ms, padding: bytes = padding) -> None:
            reply = cluster.submit(number, timeout_ms=timeout_ms, padding=padding)
            submitted.append((number, cluster.now_ms + timeout_ms, reply))
            end_ms = cluster.now_ms + timeout_ms + EXPIRY_GRAIN_MS
            cluster.at(end_ms, lambda: overdue.append(number) if not reply.done() else None)

        cluster.at(cluster.now_ms + time_ms, action)
    overdue: list[int] = []
    cluster.run(cluster.now_ms + spread_ms)
    cluster.faults = GOOD
    cluster.down = set()
    cluster.run(cluster.now_ms + 60_000)
    assert not overdue, "requests outlived their deadline"
    return submitted


def heals(cluster: SimulatedCluster, submitted: list[tuple[int, int, Reply]]) -> None:
    """After the faults, commands work at once, whatever became of the earlier ones."""
    late = [(10_000 + number, 0, cluster.submit(10_000 + number, timeout_ms=5_000)) for number in range(20)]
    cluster.run(cluster.now_ms + 5_000)
    assert [reply.error() for _, _, reply in late] == [None] * 20
    check(cluster, submitted + late)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("faults", [BAD, WITH_EXPIRY], ids=["bad", "with_expiry"])
def test_each_command_is_executed_exactly_once_and_in_order(seed: int, faults: Faults) -> None:
    cluster = SimulatedCluster(seed, faults)
    submitted = load(cluster, count=200, spread_ms=5_000)
    ends = check(cluster, submitted)
    assert ends.get("NoneType", 0) > 20, f"a run that says little: {ends}"
    heals(cluster, submitted)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_refused_for_good_is_never_executed_and_blocks_nobody(seed: int) -> None:
    # Without doubled frames: of two copies one could be refused and the other executed, and no client could know.
    cluster = SimulatedCluster(seed, BAD._replace(reject=0.05, double=0.0))
    submitted = load(cluster, count=200, spread_ms=20_000, poison=0.1)
    ends = check(cluster, submitted)
    assert ends.get("RejectedError", 0) > 0, f"a run that says little: {ends}"
    heals(cluster, submitted)


@given(
    seed=st.integers(0, 2**32),
    faults=st.builds(
        Faults,
        lose=st.floats(0, 0.3),
        double=st.floats(0, 0.5),
        delay_ms_max=st.integers(1, 300),
        busy=st.floats(0, 0.5),
        retry_before=st.floats(0, 0.3),
        retry_after=st.floats(0, 0.3),
        forward=st.floats(0, 1),
        move_leader=st.floats(0, 0.2),
        node_down=st.floats(0, 0.1),
        expire_session=st.floats(0, 0.05),
        reject=st.just(0.0),
        reply_bytes_max=st.just(2**20),
    ),
)
def test_any_mix_of_faults(seed: int, faults: Faults) -> None:
    cluster = SimulatedCluster(seed, faults, limits=Limits(session_inflight_max=16))
    submitted = load(cluster, count=60, spread_ms=2_000)
    check(cluster, submitted)
    heals(cluster, submitted)


def test_a_good_network_sends_each_command_once() -> None:
    cluster = SimulatedCluster(1, GOOD)
    submitted = [(number, 0, cluster.submit(number)) for number in range(3_000)]
    cluster.run(cluster.now_ms + 1_000)
    assert check(cluster, submitted) == {"NoneType": 3_000}
    assert cluster.host.applied_index <= 1 + 10, "what waits must travel together"
    assert cluster.journal.executed == list(range(3_000))


LOSING = Faults(lose=1.0)


def test_a_lost_frame_is_sent_again_as_soon_as_a_later_one_finds_the_gap() -> None:
    cluster = SimulatedCluster(1, GOOD)
    cluster.submit(0)
    cluster.run(cluster.now_ms + 100)
    cluster.faults = LOSING
    first = cluster.submit(1)
    cluster.run(cluster.now_ms)
    cluster.faults = GOOD
    second = cluster.submit(2)
    cluster.run(cluster.now_ms + 40)
    assert first.ok and second.ok
    assert cluster.journal.executed == [0, 1, 2]


def test_a_lost_reply_is_asked_for_again_as_soon_as_a_later_one_arrives() -> None:
    cluster = SimulatedCluster(1, GOOD)
    cluster.submit(0)
    cluster.run(cluster.now_ms + 100)
    first = cluster.submit(1)
    cluster.run(cluster.now_ms)
    cluster.faults = LOSING
    cluster.run(cluster.now_ms + GOOD.delay_ms_max)
    assert cluster.journal.executed == [0, 1] and not first.done()
    cluster.faults = GOOD
    second = cluster.submit(2)
    cluster.run(cluster.now_ms + 40)
    assert first.ok and second.ok
    assert cluster.journal.executed == [0, 1, 2]
