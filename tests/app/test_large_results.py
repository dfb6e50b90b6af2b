"""Results that do not fit into one frame."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftactors.app import Application, command, query
from raftactors.codec import frames
from raftactors.codec.frames import Level
from raftactors.codec.msgpack import unpack
from raftactors.codec.replies import DocumentReply, ResultsReply, ResultStatus, decode_reply
from raftactors.config import Limits
from tests.app.replica import Replica, commands_frame, open_frame


class Verbose(Application):
    """Answers at length."""

    def __init__(self) -> None:
        self.calls = 0

    @command
    def speak(self, size: int) -> bytes:
        self.calls += 1
        return bytes(size)

    @query
    def read(self, size: int) -> bytes:
        self.calls += 1
        return bytes(size)


LIMITS = Limits(command_bytes_max=4_096, client_frame_bytes_max=10_240)


def read(replica: Replica, sizes: list[int], is_over: Callable[[], bool] = lambda: False) -> list[bytes]:
    """The results of these queries, as far as one reply brings them."""
    queries = [frames.encode_call("read", [size]) for size in sizes]
    body = frames.encode_queries(1, level=Level.LINEARIZABLE, queries=queries)
    encoded = replica.host.query(0, frames.split_request(body)[1], is_over=is_over)
    assert len(encoded) <= LIMITS.client_frame_bytes_max
    reply = decode_reply(encoded)
    assert isinstance(reply, ResultsReply)
    assert len(reply.results) == len(sizes)
    done = [unpack(content) for status, content in reply.results if status == ResultStatus.OK]
    assert {status for status, _ in reply.results[len(done) :]} <= {ResultStatus.OUT_OF_ORDER}
    return done


@pytest.mark.parametrize("size", [0, 1, 500, 1_000, 3_000, 4_000])
def test_no_query_is_executed_whose_result_has_no_room(size: int) -> None:
    application = Verbose()
    replica = Replica(application, limits=LIMITS)
    got = read(replica, [size] * 400)
    assert 1 <= len(got) == application.calls
    assert size == 0 or len(got) == 400 or (len(got) + 1) * (size + 3) + 400 * 5 > 10_240 - 1_200


def test_one_result_that_is_larger_than_all_before_it_may_wait_for_the_next_reply() -> None:
    application = Verbose()
    replica = Replica(application, limits=LIMITS)
    assert len(read(replica, [3_000, 3_000, 1_000, 4_000, 1])) == 3
    assert application.calls <= 4


def test_an_answer_ends_when_its_time_is_over_with_one_result_at_least() -> None:
    application = Verbose()
    replica = Replica(application, limits=LIMITS)
    assert len(read(replica, [1] * 10, is_over=lambda: True)) == 1
    assert len(read(replica, [1] * 10, is_over=lambda: application.calls >= 6)) == 5
    assert application.calls == 6


def test_results_that_exceed_a_frame_come_in_parts_and_nothing_runs_twice() -> None:
    limits = Limits(command_bytes_max=4_096, client_frame_bytes_max=10_240)
    application = Verbose()
    replica = Replica(application, limits=limits)
    (opened,) = replica.commit(open_frame())
    assert isinstance(opened, DocumentReply)
    session, sizes, acked = opened.document, [3_000] * 7, 0
    assert isinstance(session, int)
    got: list[memoryview] = []
    while acked < len(sizes):
        calls = [("speak", size) for size in sizes[acked:]]
        (reply,) = replica.commit(commands_frame(session, acked + 1, *calls, acked=acked))
        assert isinstance(reply, ResultsReply)
        fitting = [content for status, content in reply.results if status == ResultStatus.OK]
        assert {status for status, _ in reply.results[len(fitting) :]} <= {ResultStatus.OUT_OF_ORDER}
        assert 1 <= len(fitting) <= 3
        got += fitting
        acked += len(fitting)
    assert [len(unpack(content)) for content in got] == sizes
    assert application.calls == len(sizes)
