"""Every timeout that a caller may give is checked before anything is sent: field, value and range are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raftactors.client import Client, ClientOptions, Reply
from raftactors.codec.msgpack import pack
from raftactors.codec.replies import ResultStatus
from raftactors.errors import ConfigError, RaftActorsError
from tests.client.fake_node import FakeNode

BAD = [True, False, float("nan"), float("inf"), -1, 0, 1.5, "5", b"5", [], 2**31 + 1, 10**400]
DOORS: dict[str, Callable[[Client, Any], object]] = {
    "call": lambda client, bad: client.call("put", "a", "b", timeout_ms=bad),
    "query": lambda client, bad: client.query("get", "a", timeout_ms=bad),
    "submit_query": lambda client, bad: client.submit_query("get", "a", timeout_ms=bad),
    "submit_packed": lambda client, bad: client.submit_packed(pack(("put", ("a", "b"), {})), timeout_ms=bad),
    "with_options": lambda client, bad: client.with_options(timeout_ms=bad),
    "admin": lambda client, bad: client.admin("status", timeout_ms=bad),
    "admin of a node": lambda client, bad: client.admin("status", node=1, timeout_ms=bad),
    "status": lambda client, bad: client.status(timeout_ms=bad),
    "Client": lambda client, bad: Client(["127.0.0.1:9"], timeout_ms=bad),
    "ClientOptions": lambda client, bad: ClientOptions(timeout_ms=bad),
}


@pytest.fixture(scope="module")
def node() -> Iterator[FakeNode]:
    with FakeNode() as node:
        yield node


@pytest.fixture(scope="module")
def client(node: FakeNode) -> Iterator[Client]:
    with Client([node.address], timeout_ms=30_000) as client:
        client.call("put", "a", "b")
        yield client


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad)[:20])
def test_no_request_is_sent_with_a_bad_timeout(door: str, bad: object, node: FakeNode, client: Client) -> None:
    taken = node.frames_taken
    with pytest.raises(RaftActorsError, match=r"timeout_ms is .*; it must be a whole number .*from 1 to 2147483648"):
        DOORS[door](client, bad)
    assert node.frames_taken == taken


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad is False or bad != 0], ids=lambda bad: repr(bad)[:20])
@pytest.mark.parametrize("is_done", [False, True])
def test_waiting_for_a_reply_is_checked_whether_it_is_there_or_not(bad: Any, is_done: bool) -> None:
    reply = Reply(b"call", 1_000)
    if is_done:
        reply.complete(ResultStatus.OK, pack(1), 1)
    for wait in (reply.get, reply.wait):
        with pytest.raises(ConfigError, match=r"timeout_ms is .*; it must be a whole number .*from 0 to 2147483648"):
            wait(bad)
    assert reply.wait(0) is is_done


def test_the_longest_timeout_is_accepted(client: Client) -> None:
    assert client.call("put", "a", "b", timeout_ms=2**31) > 0
    assert client.submit_query("get", "a").get(2**31) == "b"
