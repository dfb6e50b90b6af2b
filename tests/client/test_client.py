"""The client with real sockets and the real application host, in front of nodes without a log."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest
import zmq

from raftactors.app.application import Application, command, query
from raftactors.app.kv import KeyValue
from raftactors.client.client import Client
from raftactors.client.options import ClientOptions
from raftactors.client.reply import Reply
from raftactors.codec.msgpack import pack
from raftactors.config import Limits
from raftactors.errors import (
    ApplicationError,
    ArgumentsError,
    ClusterUnreachableError,
    CommandTooLargeError,
    ConfigError,
    OverloadedError,
    RejectedError,
    RequestError,
    UnknownMethodError,
    UnknownOutcomeError,
)
from tests.client.fake_node import FakeNode


class Bank(Application):
    """Balances that may not become negative."""

    def __init__(self) -> None:
        self.balance = 0

    @command
    def deposit(self, amount: int) -> int:
        """Add; returns the balance."""
        if self.balance + amount < 0:
            raise ValueError("too poor")
        self.balance += amount
        return self.balance

    @command
    def scale(self, by: tuple[int, int]) -> int:
        """Multiply by a fraction."""
        self.balance = self.balance * by[0] // by[1]
        return self.balance

    @query
    def total(self) -> int:
        """The balance."""
        return self.balance


def test_commands_queries_and_their_indexes() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        assert client.call("deposit", 5) == 5
        reply = client.submit("deposit", amount=2)
        assert reply.get(5_000) == 7
        assert reply.index == node.host.applied_index
        assert client.query("total") == 7
        assert client.submit_query("total").get() == 7
        assert client.cluster_id == 7 and client.leader_id == 1 and client.application == "fake:KeyValue"


def test_errors_have_types() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        with pytest.raises(ApplicationError, match="too poor") as caught:
            client.call("deposit", -1)
        assert caught.value.kind == "ValueError"
        with pytest.raises(UnknownMethodError, match="steal"):
            client.call("steal")
        with pytest.raises(ArgumentsError, match="amount"):
            client.call("deposit", "five")
        with pytest.raises(ArgumentsError, match="encoded"):
            client.call("deposit", object())
        with pytest.raises(ArgumentsError, match="linearizable"):
            client.query("total", level="eventually")
        with pytest.raises(CommandTooLargeError, match="not sent"):
            client.call("deposit", bytes(200_000))
        assert client.call("deposit", 1) == 1, "none of them may stop what follows"


def test_a_proxy_checks_arguments_before_sending() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        bank = client.proxy(Bank)
        replies = [bank.deposit(1) for _ in range(100)]
        assert [reply.get() for reply in replies] == list(range(1, 101))
        assert bank.scale((1, 2)).get() == 50
        assert bank.scale([2, 1]).get() == 100
        assert bank.total().get() == 100
        taken = node.frames_taken
        with pytest.raises(ArgumentsError, match="amount"):
            bank.deposit("one")
        with pytest.raises(ArgumentsError, match="no argument"):
            bank.deposit(amounts=1)
        with pytest.raises(AttributeError, match="deposit, scale, total"):
            bank.steal()
        assert node.frames_taken == taken
        assert dir(bank) == ["deposit", "scale", "total"]


def test_the_key_value_battery_has_a_face_of_its_own() -> None:
    with FakeNode(KeyValue()) as node, Client([node.address]) as client:
        client.kv.put("key", b"value")
        assert client.kv.get("key") == b"value"
        assert client.kv.delete("key") is True
        assert client.kv.get("key") is None
        assert "scan" in dir(client.kv)


def test_a_burst_travels_together_and_in_order() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        client.call("deposit", 0)
        before = node.host.applied_index
        replies = [client.submit("deposit", 1) for _ in range(5_000)]
        assert [reply.get() for reply in replies] == list(range(1, 5_001))
        assert node.host.applied_index - before < 1_000


def test_many_threads_and_sessions_execute_each_command_once() -> None:
    with FakeNode(Bank()) as node, Client([node.address], sessions=4) as client:
        failures: list[RequestError] = []

        def work() -> None:
            try:
                balances = [client.call("deposit", 1) for _ in range(100)]
                assert balances == sorted(balances)
            except RequestError as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert client.query("total") == 800
        assert node.host.session_count == 4


def test_a_callback_may_submit_but_not_wait() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        finished = threading.Event()
        seen: list[object] = []

        def on_done(reply: Reply) -> None:
            seen.append(reply.get())
            if len(seen) < 50:
                client.submit_packed(pack(("deposit", (1,), {})), on_done=on_done)
                return
            try:
                client.call("deposit", 1)
            except RuntimeError as error:
                seen.append(str(error))
            finished.set()

        client.submit_packed(pack(("deposit", (1,), {})), on_done=on_done)
        assert finished.wait(20)
        assert seen[:50] == list(range(1, 51))
        assert "cannot wait" in str(seen[50])


def test_the_leader_is_found_from_another_node() -> None:
    with FakeNode(Bank(), node_id=1) as follower, FakeNode(Bank(), node_id=2) as leader:
        follower.members = leader.members = [(1, follower.address), (2, leader.address)]
        follower.leader_id = 2
        with Client([follower.address]) as client:
            assert client.call("deposit", 3) == 3
            assert client.leader_id == 2
            assert follower.frames_taken == 0, "greeted only"
            status = client.status()
            assert status == {1: {"node_id": 1, "leader_id": 2}, 2: {"node_id": 2, "leader_id": 2}}
            assert client.admin("status", node=1)["node_id"] == 1


def test_a_silent_leader_is_left_for_the_node_that_leads_now() -> None:
    bank = Bank()
    with FakeNode(bank, node_id=1) as old, FakeNode(node_id=2, host=None, application=bank) as new:
        new.host = old.host  # What is in the log is on both.
        old.members = new.members = [(1, old.address), (2, new.address)]
        new.leader_id = 1
        with Client([old.address]) as client:
            assert client.call("deposit", 1) == 1
            assert client.status().keys() == {1, 2}
            old.silent, old.greets = True, False
            new.leader_id = 2
            assert client.call("deposit", 1) == 2
            assert client.leader_id == 2


def test_a_restarted_node_gets_what_it_owes_again_and_executes_it_once() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        assert client.call("deposit", 1) == 1
        node.silent = True
        taken = node.frames_taken
        reply = client.submit("deposit", 1)
        while node.frames_taken == taken:
            time.sleep(0.001)
        node.__exit__(None, None, None)
        with FakeNode(address=node.address, incarnation=2, host=node.host):
            assert reply.get() == 2
            assert client.query("total") == 2


def test_busy_nodes_are_asked_again() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        node.busy_frames = 3
        assert client.call("deposit", 1) == 1
        node.busy_frames = 2
        assert client.query("total") == 1


def test_a_dead_cluster_is_told_within_the_timeout() -> None:
    started = time.monotonic()
    with Client(["127.0.0.1:9", "127.0.0.1:11"], timeout_ms=300) as client:
        with pytest.raises(ClusterUnreachableError, match=r"never sent.*127\.0\.0\.1:9 \(no answer\)"):
            client.call("deposit", 1)
        with pytest.raises(ClusterUnreachableError):
            client.query("total")
        with pytest.raises(ClusterUnreachableError, match="not reached"):
            client.status(timeout_ms=100)
        with pytest.raises(ClusterUnreachableError, match="not reached"):
            client.admin("transfer_leader", 2, timeout_ms=100)
    assert time.monotonic() - started < 3


def test_a_deadline_of_its_own_and_an_unknown_outcome() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        client.call("deposit", 1)
        node.silent = True
        with pytest.raises(UnknownOutcomeError, match="may or may not"):
            client.call("deposit", 1, timeout_ms=100)
        with pytest.raises(UnknownOutcomeError, match="did not answer"):
            client.admin("status", timeout_ms=100)
        node.silent = False
        assert client.call("deposit", 1) == 3, "the overdue command keeps its place"


def test_a_wrong_cluster_is_refused_at_once() -> None:
    with FakeNode(Bank()) as node, Client([node.address], cluster_id=8) as client:
        with pytest.raises(RejectedError, match="cluster 7, not to 8"):
            client.call("deposit", 1)
        assert node.frames_taken == 0


def test_operators_requests_are_answered_or_refused() -> None:
    with FakeNode(Bank()) as node, Client([node.address]) as client:
        assert client.status() == {1: {"node_id": 1, "leader_id": 1}}
        with pytest.raises(RejectedError, match="no such operation: dance"):
            client.admin("dance")
        with pytest.raises(ConfigError, match="node 9 is none of this cluster's; its nodes are 1"):
            client.admin("status", node=9)
        with pytest.raises(ConfigError, match="node True"):
            client.admin("status", node=True)


def test_a_node_may_be_asked_before_any_has_answered() -> None:
    with FakeNode(node_id=1) as first, FakeNode(node_id=2) as second:
        first.members = second.members = [(1, first.address), (2, second.address)]
        for _ in range(5):
            with Client([first.address]) as client:
                assert client.admin("status", node=2)["node_id"] == 2
            with Client([first.address]) as client, pytest.raises(ConfigError, match="its nodes are 1, 2"):
                client.admin("status", node=3)
    with Client(["127.0.0.1:9"]) as client, pytest.raises(ClusterUnreachableError, match="no node answered"):
        client.admin("status", node=1, timeout_ms=100)


@pytest.mark.parametrize("timeout_ms", [100, 600])
def test_a_restarted_node_is_reached_by_a_short_status(timeout_ms: int) -> None:
    with ExitStack() as stack:
        node, other = stack.enter_context(FakeNode(node_id=1)), FakeNode(node_id=2)
        node.members = [(1, node.address), (2, other.address)]
        client = stack.enter_context(Client([node.address, other.address]))
        for incarnation in range(2, 5):
            with other:
                # The first one may come before the connection is made again.
                documents = [client.status(timeout_ms=timeout_ms)[2] for _ in range(10)]
                assert "error" not in documents[-1]
                assert "error" not in documents[0] or timeout_ms == 100
            other = FakeNode(node_id=2, address=other.address, incarnation=incarnation)
        with other:
            pass


def test_a_client_whose_thread_has_failed_says_so() -> None:
    with zmq.Context() as context:
        client = Client(["127.0.0.1:9"], context=context, timeout_ms=60_000)

        def fail(*_: object) -> None:
            raise RuntimeError("planted")

        client._driver._nodes.ask = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(RejectedError, match="failed"):
            client.admin("status")
        with pytest.raises(RejectedError, match=r"RuntimeError: planted\); make a new one"):
            client.call("put", "a", "b")
        client.close()


def test_closing_ends_what_is_in_flight_and_closes_the_session() -> None:
    with FakeNode(Bank()) as node:
        client = Client([node.address])
        client.call("deposit", 1)
        assert node.host.session_count == 1
        client.close()
        client.close()
        assert node.host.session_count == 0
        with pytest.raises(RejectedError, match="closed"):
            client.call("deposit", 1)
        silenced = Client([node.address], options=ClientOptions(close_ms=20))
        silenced.call("deposit", 1)
        node.silent = True
        taken = node.frames_taken
        reply = silenced.submit("deposit", 1)
        while node.frames_taken == taken:
            time.sleep(0.001)
        silenced.close()
        with pytest.raises(UnknownOutcomeError, match="closed"):
            reply.get()


def test_a_client_holds_a_bounded_number_of_requests() -> None:
    with Client(["127.0.0.1:9"], options=ClientOptions(pending_requests_max=10, timeout_ms=100)) as client:
        replies = [client.submit("deposit", 1) for _ in range(10)]
        with pytest.raises(OverloadedError, match="pending_requests_max"):
            client.submit("deposit", 1)
        assert all(isinstance(reply.wait() and reply.error(), ClusterUnreachableError) for reply in replies)


def test_a_shared_context_outlives_its_clients() -> None:
    with zmq.Context() as context, FakeNode(Bank()) as node:
        for balance in (1, 2):
            with Client([node.address], context=context) as client:
                assert client.call("deposit", 1) == balance
        assert not context.closed


def test_small_frames_of_the_nodes_are_respected() -> None:
    limits = Limits(command_bytes_max=1_000, client_frame_bytes_max=5_096)
    with FakeNode(KeyValue(), limits=limits) as node, Client([node.address]) as client:
        client.kv.put("first", b"")
        replies = [client.submit("put", f"key{number}", bytes(900)) for number in range(50)]
        assert [reply.get() for reply in replies] == list(range(2, 52))
        with pytest.raises(CommandTooLargeError, match="1000"):
            client.submit("put", "large", bytes(1_000))


@pytest.mark.parametrize("sessions", [0, 256, True, "1"])
def test_the_number_of_sessions_is_checked(sessions: int) -> None:
    with pytest.raises(ConfigError, match="sessions"):
        Client(["127.0.0.1:9"], sessions=sessions)


def test_a_timeout_out_of_range_is_refused_before_a_thread_exists() -> None:
    threads = threading.active_count()
    with pytest.raises(ConfigError, match="timeout_ms"):
        Client(["127.0.0.1:9"], timeout_ms=0)
    with pytest.raises(ConfigError, match="address"):
        Client(["nowhere"])
    assert threading.active_count() == threads
