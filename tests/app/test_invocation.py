"""What a node answers for results, arguments and errors that its client could not read."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from raftactors.app import Application, command, query
from raftactors.app.host import ApplicationHost
from raftactors.app.invocation import ERROR_BYTES_MAX, ERROR_TEXT_MAX, Invoker
from raftactors.client.reply import Reply
from raftactors.codec.frames import Level, encode_queries, split_request
from raftactors.codec.msgpack import pack, unpack
from raftactors.codec.replies import ResultsReply, ResultStatus, decode_reply
from raftactors.codec.shape import VALUES_MAX
from raftactors.config import Limits
from raftactors.errors import ApplicationError, ArgumentsError, RequestError, UnknownMethodError

RESULTS: dict[str, Any] = {
    "numbered": {1: "ann", 2: "bob"},
    "by outcome": {True: [1], False: [2], None: 0, 0.5: 0, b"x": 0},
    "many": list(range(5_000)),
    "many pairs": {str(key): key for key in range(5_000)},
    "infinite": [float("inf"), -0.0],
}
UNREADABLE: dict[str, tuple[Any, str]] = {
    "pairs as keys": ([{(1, 2): 3}], "a dict with a key of type tuple at [0]"),
    "a set": ({1}, "a value of type set; use a sorted list"),
    "a time": ({"at": datetime.date(2026, 1, 1)}, "a value of type date at ['at']; use its isoformat()"),
    "a large number": ([2**64], "an int of 65 bits"),
    "half a character": ("\ud83d", "the str '\\ud83d', which has a lone surrogate"),
    "too many": ([0] * 70_000, f"a list of 70000, and one message holds at most {VALUES_MAX} values in all"),
}


class Broken(dict[str, int]):
    def items(self) -> Any:
        raise LookupError("not now")


class Answers(Application):
    """Answers with whatever is asked for."""

    def __init__(self) -> None:
        self.calls = 0

    @command
    def give(self, which: str) -> Any:
        self.calls += 1
        return self.read(which)

    @query
    def read(self, which: str) -> Any:
        if which == "broken":
            return Broken(x=1)
        return RESULTS[which] if which in RESULTS else UNREADABLE[which][0]

    @command
    def echo(self, value: Any) -> Any:
        return value

    @command
    def count(self, ages: dict[int, str]) -> list[Any]:
        return list(ages.items())

    @query
    def sized(self, size: int) -> bytes:
        return bytes(size)

    @command
    def fail(self, name: str, text: str) -> None:
        raise type(name, (Exception,), {})(text)


def ask(kind: Any, method: str, *args: object, packed: bytes = b"", limits: Limits | None = None) -> Reply:
    """What a client's future would hold."""
    invoker = Invoker(Answers(), kind, limits=limits or Limits())
    status, content = invoker.invoke(memoryview(packed or pack((method, args, {}))), lambda: pytest.fail("context"))
    reply = Reply(b"", 0)
    reply.complete(status, content, 1)
    return reply


@pytest.mark.parametrize("which", RESULTS)
@pytest.mark.parametrize(("kind", "method"), [("command", "give"), ("query", "read")])
def test_ordinary_results_are_read(kind: str, method: str, which: str) -> None:
    assert ask(kind, method, which).get() == RESULTS[which]


@pytest.mark.parametrize("which", UNREADABLE)
@pytest.mark.parametrize(("kind", "method"), [("command", "give"), ("query", "read")])
def test_a_result_that_its_client_could_not_read_is_refused_on_the_node(kind: str, method: str, which: str) -> None:
    reply = ask(kind, method, which)
    assert not reply.ok
    with pytest.raises(ApplicationError) as caught:
        reply.get()
    assert caught.value.kind == "ResultError"
    assert f"the result of {method}() holds {UNREADABLE[which][1]}" in str(caught.value)
    assert str(caught.value).endswith("the command took effect, only its result is lost") == (kind == "command")


def test_a_result_whose_own_code_fails_is_refused_as_well() -> None:
    with pytest.raises(ApplicationError, match="its parts do not tell what they hold"):
        ask("command", "give", "broken").get()


def test_arguments_have_the_same_limits_and_the_refusal_names_the_one_that_was_met() -> None:
    large = Limits(command_bytes_max=250_000)
    assert ask("command", "echo", list(range(5_000))).get() == list(range(5_000))
    assert ask("command", "count", {1: "ann"}).get() == [[1, "ann"]]
    with pytest.raises(ArgumentsError, match=f"a list of 70000 at .*, and one message holds at most {VALUES_MAX}"):
        pack(("echo", [[0] * 70_000], {}))
    many = b"\x93\xa4echo\x91\xdd\x00\x01\x11\x70" + bytes(70_000) + b"\x80"
    with pytest.raises(ArgumentsError, match=f"not decodable: msgpack_values: more than {VALUES_MAX} values"):
        ask("command", "", packed=many, limits=large).get()
    with pytest.raises(ArgumentsError, match="not decodable: msgpack_depth: lists and dicts nested more than 128 deep"):
        ask("command", "", packed=b"\x93\xa4echo\x91" + b"\x91" * 127 + b"\xc0\x80").get()
    with pytest.raises(ArgumentsError, match="not decodable: msgpack_key: a list or a dict is the key of a dict"):
        ask("command", "", packed=b"\x93\xa4echo\x91\x81\x90\x00\x80").get()
    with pytest.raises(ArgumentsError, match=r"not decodable: msgpack_malformed$"):
        ask("command", "", packed=b"\x93\xa4echo\x91\xa1\xff\x80").get()
    with pytest.raises(ArgumentsError, match="has no argument 7"):
        ask("command", "", packed=b"\x93\xa4echo\x90\x81\x07\x00").get()


@pytest.mark.parametrize("name", ["N" * 100_000, "Ü" * 100_000, "\N{GRINNING FACE}"])
@pytest.mark.parametrize("text", ["t" * 100_000, "\N{GRINNING FACE}" * 100_000, "\ud800" * 5_000, ""])
def test_name_and_text_of_an_exception_are_cut(name: str, text: str) -> None:
    # As the arguments of a call they would be refused, so they are made here.
    application = type("Raising", (Answers,), {"fail": command(_raise(name, text))})()
    status, content = Invoker(application, "command", limits=Limits()).invoke(
        memoryview(pack(("fail", [], {}))), lambda: pytest.fail("context")
    )
    kind, sent = unpack(content)
    assert status == ResultStatus.APPLICATION_ERROR
    assert len(content) <= ERROR_BYTES_MAX + 500
    assert kind == name[:100]
    assert len(sent) <= ERROR_TEXT_MAX and sent[:400] == text[:400].replace("\ud800", "?")


def _raise(name: str, text: str) -> Any:
    def fail(self: Answers) -> None:
        raise type(name, (Exception,), {})(text)

    return fail


@pytest.mark.parametrize(
    ("method", "kwargs", "error"),
    [("\x01" * 50_000, {}, UnknownMethodError), ("echo", {"\x01" * 50_000: 1}, ArgumentsError)],
)
def test_a_refusal_does_not_send_back_what_the_client_sent(
    method: str, kwargs: dict[str, object], error: type[RequestError]
) -> None:
    with pytest.raises(error) as caught:
        ask("command", method, packed=pack((method, [], kwargs))).get()
    assert len(str(caught.value)) <= ERROR_TEXT_MAX


@pytest.mark.parametrize(
    "limits",
    [Limits(), Limits(command_bytes_max=4_096, client_frame_bytes_max=8_192), Limits(command_bytes_max=258_048)],
)
def test_the_largest_result_fits_the_frame_that_takes_it_to_the_client(limits: Limits) -> None:
    host = ApplicationHost(Answers(), limits=limits, node_id=1)

    def result_of(size: int) -> tuple[int, int]:
        frame = encode_queries(1, level=Level.LINEARIZABLE, queries=[pack(("sized", [size], {}))])
        body = host.query(0, split_request(frame)[1])
        assert len(body) <= limits.client_frame_bytes_max - 1_024
        reply = decode_reply(body)
        assert isinstance(reply, ResultsReply)
        (status, content), *_ = reply.results
        return status, len(content)

    low, high = 0, limits.client_frame_bytes_max
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if result_of(middle)[0] == ResultStatus.OK else (low, middle)
    assert low >= min(limits.command_bytes_max + 4_000, limits.client_frame_bytes_max - 1_100)
    assert result_of(high)[0] == ResultStatus.APPLICATION_ERROR


def test_a_result_above_1_mib_is_read_where_the_limits_allow_it() -> None:
    large = Limits(
        command_bytes_max=3 * 2**20, client_frame_bytes_max=4 * 2**20, proposal_bytes_max=4 * 2**20,
        append_bytes_max=4 * 2**20, peer_frame_bytes_max=16 * 2**20, client_unread_bytes_max=12 * 2**20,
    )  # fmt: skip
    assert ask("query", "sized", 2 * 2**20, limits=large).get() == bytes(2 * 2**20)
