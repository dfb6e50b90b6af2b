"""The future of a request: waiting, callbacks, typed errors."""

from __future__ import annotations

import threading

import pytest

from raftactors.client.reply import Reply
from raftactors.codec.msgpack import pack
from raftactors.codec.replies import ResultStatus
from raftactors.errors import (
    ApplicationError,
    ArgumentsError,
    RejectedError,
    RequestError,
    UnknownMethodError,
    UnknownOutcomeError,
)


def new_reply() -> Reply:
    return Reply(b"call", 1_000)


def test_a_result_is_given_to_every_waiter_with_its_index() -> None:
    reply = new_reply()
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(reply.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    reply.complete(ResultStatus.OK, pack({"a": [1, b"x", None]}), 42)
    for thread in threads:
        thread.join()
    assert results == [{"a": [1, b"x", None]}] * 4
    assert reply.done() and reply.ok and reply.index == 42 and reply.error() is None


@pytest.mark.parametrize(
    ("status", "content", "kind", "text"),
    [
        (ResultStatus.APPLICATION_ERROR, pack(["ValueError", "too poor"]), ApplicationError, "ValueError: too poor"),
        (ResultStatus.APPLICATION_ERROR, pack("odd"), ApplicationError, "odd"),
        (ResultStatus.UNKNOWN_METHOD, b"no such", UnknownMethodError, "no such"),
        (ResultStatus.ARGUMENTS, b"\xff must be int", ArgumentsError, "must be int"),
        (ResultStatus.OK, b"\xc1", ApplicationError, "ResultUnreadable"),
    ],
)
def test_a_result_that_is_none_is_a_typed_error(
    status: int, content: bytes, kind: type[RequestError], text: str
) -> None:
    reply = new_reply()
    reply.complete(status, content, 1)
    with pytest.raises(kind, match=text):
        reply.get()
    assert type(reply.error()) is kind


def test_waiting_can_be_given_up_while_the_request_goes_on() -> None:
    reply = new_reply()
    with pytest.raises(TimeoutError):
        reply.get(1)
    with pytest.raises(ValueError, match="under way"):
        reply.error()
    assert not reply.ok
    reply.complete(ResultStatus.OK, pack(1), 1)
    assert reply.get(1) == 1


def test_the_first_end_counts() -> None:
    reply = new_reply()
    reply.fail(UnknownOutcomeError("late"))
    reply.complete(ResultStatus.OK, pack(1), 1)
    reply.fail(RejectedError("later"))
    with pytest.raises(UnknownOutcomeError, match="late"):
        reply.get()


def test_callbacks_are_called_once_each_and_their_errors_hurt_nobody(caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    def failing(_: Reply) -> None:
        called.append("failing")
        raise RuntimeError("a caller's mistake")

    reply = Reply(b"call", 1_000, on_done=lambda _: called.append("first"))
    reply.add_done_callback(failing)
    reply.add_done_callback(lambda _: called.append("third"))
    assert called == []
    reply.complete(ResultStatus.OK, pack(1), 1)
    reply.add_done_callback(lambda _: called.append("late"))
    assert called == ["first", "failing", "third", "late"]
    assert "a caller's mistake" in caplog.text
