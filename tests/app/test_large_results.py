"""Results that do not fit into one frame."""

from __future__ import annotations

from raftactors.app import Application, command
from raftactors.codec.msgpack import unpack
from raftactors.codec.replies import DocumentReply, ResultsReply, ResultStatus
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
