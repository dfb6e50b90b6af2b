"""What is given to a request by name reaches the method if it has such an argument, and is an option otherwise."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from raftactors import Application, command, query
from raftactors.client import Client, ClientOptions, Reply
from raftactors.errors import (
    ArgumentsError,
    ClusterUnreachableError,
    OverloadedError,
    RejectedError,
    UnknownMethodError,
    UnknownOutcomeError,
)
from tests.client.fake_node import FakeNode

NOBODY = "127.0.0.1:9"


class Names(Application):
    """Methods whose arguments are called like everything that could be in their way."""

    @command
    def lock(self, name: str, timeout_ms: int = -1) -> list[object]:
        """The arguments."""
        return [name, timeout_ms]

    @command
    def set(self, *, method: str, args: int, kwargs: int, level: int, name: str) -> list[object]:
        """The arguments."""
        return [method, args, kwargs, level, name]

    @command
    def plain(self, name: str) -> str:
        """The argument."""
        return name

    @query
    def look(self, level: str = "own default") -> str:
        """The argument."""
        return level

    @query
    def both(self, level: int, timeout_ms: float) -> list[object]:
        """The arguments."""
        return [level, timeout_ms]

    @query
    def read(self, packed: str = "", session: int = 0, on_done: str = "") -> list[object]:
        """The arguments."""
        return [packed, session, on_done]


@pytest.fixture(scope="module")
def node() -> Iterator[FakeNode]:
    with FakeNode(Names()) as node:
        yield node


@pytest.fixture(params=["fresh", "greeted"])
def client(node: FakeNode, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client that no node has answered yet, and one that knows the application."""
    with Client([node.address], timeout_ms=30_000) as client:
        if request.param == "greeted":
            client.call("plain", "x")
        yield client


def test_an_argument_reaches_the_method(client: Client) -> None:
    assert client.call("lock", "a", timeout_ms=20_000) == ["a", 20_000]
    assert client.call("lock", "a", timeout_ms=-5) == ["a", -5], "no timeout of a request, and none is meant"
    assert client.call("lock", name="a") == ["a", -1]
    assert client.call("set", method="m", args=1, kwargs=2, level=3, name="n") == ["m", 1, 2, 3, "n"]
    assert client.query("look", level="linearizable") == "linearizable"
    assert client.query("look", level="brown", timeout_ms=20_000) == "brown"
    assert client.query("both", level=1, timeout_ms=0.5) == [1, 0.5]
    assert client.query("read", packed="p", session=7, on_done="d") == ["p", 7, "d"]
    assert client.submit_query("look", level="x").get() == "x"
    assert client.submit("lock", "a", timeout_ms=5).get() == ["a", 5]
    assert client.submit("set", method="m", args=1, kwargs=2, level=3, name="n").get() == ["m", 1, 2, 3, "n"]


def test_an_option_is_one_where_the_method_has_no_such_argument(client: Client) -> None:
    assert client.call("plain", "x", timeout_ms=20_000) == "x"
    assert client.query("read", level="linearizable", timeout_ms=20_000) == ["", 0, ""]
    assert client.submit_query("read", timeout_ms=20_000).get() == ["", 0, ""]
    with pytest.raises(ArgumentsError, match="level is 'brown'; choose linearizable"):
        client.query("read", level="brown")
    with pytest.raises(ArgumentsError, match=r"timeout_ms is True; .* from 1 to"):
        client.call("plain", "x", timeout_ms=True)
    with pytest.raises(ArgumentsError, match="no argument 'level'"):
        client.call("plain", "x", level="linearizable")
    with pytest.raises(ArgumentsError, match="no argument 'timeout_ms'"):
        client.submit("plain", "x", timeout_ms=20_000).get()


def test_what_is_ambiguous_is_refused(client: Client) -> None:
    with pytest.raises(ArgumentsError, match="'timeout_ms' twice"):
        client.call("lock", "a", 5, timeout_ms=20_000)
    with pytest.raises(UnknownMethodError, match="steal"):
        client.call("steal", timeout_ms=20_000)
    with pytest.raises(TypeError):
        client.call(method="plain")  # type: ignore[call-arg]


def test_with_options_leaves_every_name_to_the_method(client: Client) -> None:
    view = client.with_options(timeout_ms=20_000, level="linearizable")
    assert view.call("lock", "a", timeout_ms=1) == ["a", 1]
    assert view.submit("lock", "a", timeout_ms=1).get() == ["a", 1]
    assert view.query("both", level=2, timeout_ms=0.5) == [2, 0.5]
    assert view.submit_query("look", level="brown").get() == "brown"
    assert view.proxy(Names).lock("a", timeout_ms=3).get() == ["a", 3]
    with pytest.raises(ArgumentsError, match="no argument 'timeout_ms'"):
        view.call("plain", "x", timeout_ms=20_000)
    with pytest.raises(ArgumentsError, match="timeout_ms"):
        client.with_options(timeout_ms=0)
    with pytest.raises(ArgumentsError, match="level"):
        client.with_options(level="brown")


def test_the_options_of_a_view_are_obeyed(node: FakeNode) -> None:
    with Client([node.address], timeout_ms=60_000) as client:
        client.call("plain", "x")
        view = client.with_options(timeout_ms=50)
        node.silent = True
        try:
            with pytest.raises(UnknownOutcomeError):
                view.call("lock", "a", timeout_ms=60_000)
            with pytest.raises(UnknownOutcomeError):
                client.call("plain", "x", timeout_ms=50)
            with pytest.raises(ClusterUnreachableError):
                view.proxy(Names).look().get()
        finally:
            node.silent = False


def test_a_view_and_a_reply_keep_the_client(node: FakeNode) -> None:
    view = Client([node.address]).with_options(timeout_ms=20_000)
    reply = Client([node.address]).submit_query("look", level="x")
    gc.collect()
    assert view.call("plain", "x") == "x"
    assert reply.get() == "x"


def test_without_a_node_that_tells_a_call_ends_within_its_timeout() -> None:
    with Client([NOBODY], timeout_ms=60_000) as client:
        started_s = time.monotonic()
        with pytest.raises(ClusterUnreachableError, match=rf"nothing was sent; tried: {NOBODY}"):
            client.call("put", "a", "b", timeout_ms=100)
        reply = client.submit_query("get", "a", timeout_ms=100)
        assert isinstance(reply, Reply) and isinstance(reply.wait() and reply.error(), ClusterUnreachableError)
        assert time.monotonic() - started_s < 10


def test_calls_that_wait_for_a_node_that_tells_are_bounded() -> None:
    with Client([NOBODY], options=ClientOptions(pending_requests_max=3)) as client:
        replies = [client.submit_query("get", "a", timeout_ms=60_000) for _ in range(3)]
        while client._driver.awaiting() < 3:
            time.sleep(0.001)
        with pytest.raises(OverloadedError, match="pending_requests_max"):
            client.submit_query("get", "a", timeout_ms=60_000)
    for reply in replies:
        with pytest.raises(RejectedError, match="closed"):
            reply.get()


def test_another_cluster_is_told_to_a_call_that_waits(node: FakeNode) -> None:
    with Client([node.address], cluster_id=8) as client, pytest.raises(RejectedError, match="cluster 7, not to 8"):
        client.call("plain", "x", timeout_ms=60_000)
