"""One session engine in virtual time: what callers are told, and when."""

from __future__ import annotations

import pytest

from raftactors.client.options import ClientOptions
from raftactors.codec.frames import FrameKind, split_request
from raftactors.codec.replies import encode_retry
from raftactors.config import Limits
from raftactors.errors import (
    ClusterUnreachableError,
    CommandTooLargeError,
    ConfigError,
    OverloadedError,
    RejectedError,
    RequestError,
    SessionExpiredError,
    UnknownOutcomeError,
)
from tests.client.simulated_cluster import POISON, Faults, SimulatedCluster

GOOD = Faults()
DEAD = Faults(lose=1.0)


def connected(faults: Faults = GOOD, **options: object) -> SimulatedCluster:
    """A cluster whose client has a session and has executed command 0."""
    cluster = SimulatedCluster(3, GOOD, **options)  # type: ignore[arg-type]  # handed through
    first = cluster.submit(0)
    cluster.run(cluster.now_ms + 200)
    assert first.get(0) == 1
    cluster.faults = faults
    return cluster


def error_of(error: RequestError | None, kind: type[RequestError]) -> str:
    assert type(error) is kind
    return str(error)


def test_a_dead_cluster_is_told_at_the_deadline_and_nothing_happened() -> None:
    cluster = SimulatedCluster(1, DEAD)
    reply = cluster.submit(0, timeout_ms=700)
    query = cluster.submit(0, timeout_ms=700, query=True)
    cluster.run(cluster.now_ms + 699)
    assert not reply.done() and not query.done()
    cluster.run(cluster.now_ms + 10)
    assert "never sent" in error_of(reply.error(), ClusterUnreachableError)
    assert "node1:1 (no answer)" in str(reply.error())
    error_of(query.error(), ClusterUnreachableError)
    cluster.faults = GOOD
    cluster.run(cluster.now_ms + 10_000)
    assert cluster.journal.executed == []


def test_a_sent_command_that_is_overdue_is_unknown_and_keeps_its_place_in_the_order() -> None:
    cluster = connected(DEAD)
    overdue = cluster.submit(1, timeout_ms=300)
    cluster.run(cluster.now_ms + 320)
    assert "may or may not" in error_of(overdue.error(), UnknownOutcomeError)
    cluster.faults = GOOD
    later = cluster.submit(2, timeout_ms=20_000)
    cluster.run(cluster.now_ms + 20_000)
    assert later.get(0) == 3, "the sequence of the overdue command must be executed first"
    assert cluster.journal.executed == [0, 1, 2]


def test_an_overdue_query_is_no_open_outcome() -> None:
    cluster = connected(DEAD)
    query = cluster.submit(0, timeout_ms=300, query=True)
    cluster.run(cluster.now_ms + 320)
    assert "changed nothing" in error_of(query.error(), ClusterUnreachableError)
    assert query.error() is not None and query.error().retry_safe  # type: ignore[union-attr]  # checked before


def test_a_cluster_that_stays_busy_is_told_as_overload() -> None:
    cluster = SimulatedCluster(1, Faults(busy=1.0))
    reply = cluster.submit(0, timeout_ms=400)
    cluster.run(cluster.now_ms + 420)
    error = reply.error()
    assert isinstance(error, OverloadedError) and error.retry_after_ms > 0
    assert cluster.journal.executed == []


def test_refused_frames_are_offered_again_with_growing_pauses() -> None:
    cluster = connected(Faults(busy=1.0))
    before = len(cluster.taken)
    cluster.submit(1, timeout_ms=10_000)
    cluster.run(cluster.now_ms + 10_000)
    # Up to 500 ms a pause, half as long or half as long again.
    assert 13 <= len(cluster.taken) - before <= 60


def test_one_change_of_leader_sends_each_frame_again_once() -> None:
    cluster = connected(claimed_limits=Limits(command_bytes_max=500, client_frame_bytes_max=4_596))
    engine, now_ms = cluster.engine, cluster.now_ms
    for number in range(1, 41):
        cluster.submit(number, padding=bytes(400))
    first = [split_request(body)[0] for _, body in engine.poll(now_ms)]
    assert len(first) == 4, "the window of frames is full"
    engine.receive(first[1], encode_retry(1), now_ms)
    second = [split_request(body)[0] for _, body in engine.poll(now_ms)]
    assert len(second) == 4 and not set(first) & set(second)
    for request in first:
        engine.receive(request, encode_retry(1), now_ms + 1)
    assert engine.poll(now_ms + 100) == [], "late refusals of the first attempts say nothing about the second ones"
    engine.receive(second[0], encode_retry(1), now_ms + 101)
    assert len(engine.poll(now_ms + 200)) == 4


def test_no_leader_is_no_reason_to_flood_the_nodes() -> None:
    cluster = connected(Faults(retry_before=1.0))
    before = len(cluster.taken)
    cluster.submit(1, timeout_ms=10_000)
    cluster.run(cluster.now_ms + 10_000)
    assert 10 <= len(cluster.taken) - before <= 80


def test_an_expired_session_ends_what_is_in_flight_and_is_replaced() -> None:
    cluster = connected()
    cluster.expire_session()
    lost = [cluster.submit(number) for number in (1, 2, 3)]
    cluster.run(cluster.now_ms + 100)
    for reply in lost:
        assert "expired" in error_of(reply.error(), SessionExpiredError)
    later = cluster.submit(4)
    cluster.run(cluster.now_ms + 100)
    assert later.get(0) == 2
    assert cluster.journal.executed == [0, 4]


def test_an_idle_session_is_kept_alive() -> None:
    cluster = connected(session_ttl_ms=3_000)
    cluster.run(cluster.now_ms + 30_000)
    assert cluster.taken.count(FrameKind.KEEP_ALIVE) >= 20
    reply = cluster.submit(1)
    cluster.run(cluster.now_ms + 100)
    assert reply.get(0) == 2
    assert cluster.taken.count(FrameKind.OPEN_SESSION) == 1


def test_a_session_that_is_gone_when_it_is_kept_alive_is_replaced_before_the_next_command() -> None:
    cluster = connected(session_ttl_ms=3_000)
    cluster.expire_session()
    cluster.run(cluster.now_ms + 2_000)
    reply = cluster.submit(1)
    cluster.run(cluster.now_ms + 100)
    assert reply.get(0) == 2


def test_a_refused_command_is_told_at_once_and_the_next_goes_on() -> None:
    cluster = connected()
    poisoned = cluster.submit(1, padding=POISON)
    cluster.run(cluster.now_ms + 10)
    assert "poisoned" in error_of(poisoned.error(), RejectedError)
    later = cluster.submit(2)
    cluster.run(cluster.now_ms + 100)
    assert later.get(0) == 2
    assert cluster.journal.executed == [0, 2]


def test_a_command_that_was_executed_before_its_frame_was_refused_has_its_result() -> None:
    cluster = connected()
    reply = cluster.submit(1)
    cluster.run(cluster.now_ms)
    cluster.faults = DEAD
    cluster.run(cluster.now_ms + GOOD.delay_ms_max)
    assert cluster.journal.executed == [0, 1] and not reply.done()
    cluster.faults = Faults(reject=1.0)
    cluster.run(cluster.now_ms + 3_000)
    assert not reply.done(), "refused now, but an earlier attempt may have been executed"
    cluster.faults = GOOD
    cluster.run(cluster.now_ms + 3_000)
    assert reply.get(0) == 2


def test_a_command_that_no_node_takes_is_refused_without_being_sent() -> None:
    cluster = connected(limits=Limits(command_bytes_max=100))
    before = len(cluster.taken)
    large, small = cluster.submit(1, padding=bytes(200)), cluster.submit(2)
    cluster.run(cluster.now_ms + 100)
    assert "command_bytes_max is 100" in error_of(large.error(), CommandTooLargeError)
    assert small.get(0) == 2
    assert len(cluster.taken) == before + 1


def test_a_full_window_of_the_session_is_acknowledged_and_goes_on() -> None:
    cluster = SimulatedCluster(
        1, GOOD, limits=Limits(session_inflight_max=16), claimed_limits=Limits(session_inflight_max=1_000)
    )
    submitted = [cluster.submit(number) for number in range(100)]
    cluster.run(cluster.now_ms + 9_000)
    assert [reply.get(0) for reply in submitted] == list(range(1, 101))


def test_results_too_large_for_one_frame_are_fetched_in_parts() -> None:
    cluster = connected(Faults(reply_bytes_max=500))
    submitted = [cluster.submit(number, timeout_ms=60_000) for number in range(1, 201)]
    cluster.run(cluster.now_ms + 60_000)
    assert [reply.get(0) for reply in submitted] == list(range(2, 202))
    assert cluster.journal.executed == list(range(201))


def test_a_dead_leader_is_left_for_another_node() -> None:
    cluster = connected()
    assert cluster.route.ready is not None and cluster.route.ready.node_id == 1
    cluster.down, cluster.leader_id = {1}, 2
    reply = cluster.submit(1, timeout_ms=5_000)
    cluster.run(cluster.now_ms + 400)
    assert reply.get(0) == 2, "another node's word about the leader must come before the silence is over"
    assert cluster.route.leader_id == 2 and cluster.route.ready.node_id == 2


def test_a_leader_that_moved_is_followed() -> None:
    cluster = connected(Faults(forward=0.0))
    cluster.leader_id = 3
    reply = cluster.submit(1)
    cluster.run(cluster.now_ms + 60)
    assert reply.get(0) == 2
    assert cluster.route.ready is not None and cluster.route.ready.node_id == 3


def test_closing_ends_every_request_by_what_is_known_of_it() -> None:
    cluster = connected(DEAD)
    sent = cluster.submit(1)
    cluster.run(cluster.now_ms + 1)
    waiting, query = cluster.submit(2), cluster.submit(0, query=True)
    cluster.engine.close(RejectedError("closed"))
    error_of(sent.error(), UnknownOutcomeError)
    error_of(waiting.error(), RejectedError)
    error_of(query.error(), RejectedError)
    assert not cluster.engine.closed()
    cluster.faults = GOOD
    cluster.run(cluster.now_ms + 5_000)
    assert cluster.engine.closed() and cluster.host.session_count == 0


def test_nonsense_from_a_node_is_counted_and_changes_nothing() -> None:
    cluster = connected(DEAD)
    reply = cluster.submit(1)
    cluster.run(cluster.now_ms + 1)
    for request in range(2_000):
        cluster.engine.receive(request, b"\xff" * (request % 40), cluster.now_ms)
    assert cluster.engine.wire_errors == 2_000
    assert not reply.done()


@pytest.mark.parametrize("name", ["timeout_ms", "probe_ms", "backoff_ms_max", "frames_inflight_max"])
@pytest.mark.parametrize("value", [0, -1, 2**31 + 1, 1.5, True])
def test_options_are_checked(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        ClientOptions(**{name: value})  # type: ignore[arg-type]  # that is the point


def test_doubt_comes_before_leaving() -> None:
    with pytest.raises(ConfigError, match="probe_ms"):
        ClientOptions(probe_ms=1_000, silence_ms=1_000)
