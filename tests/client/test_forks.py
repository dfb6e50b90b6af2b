"""A client belongs to the process that made it: a forked child is told so at once, and leaves the parent's alone."""

from __future__ import annotations

import copy
import multiprocessing

import pytest

from raftactors.client import Client
from tests.client.fake_node import FakeNode
from tests.client.programs import run_program

IN_THE_CHILD = """
client, dropped, open_client = Client([ADDRESS]), Client([ADDRESS]), Client(["127.0.0.1:9"], timeout_ms=30_000)
client.call("put", "a", "1")
dropped.call("put", "b", "1")
view, proxy, kv = client.with_options(timeout_ms=5_000), client.proxy(KeyValue), client.kv
under_way = open_client.submit("put", "a", "2")
attempts = {
    "call": lambda: client.call("put", "a", "3"),
    "call with an option": lambda: client.call("put", "a", "3", timeout_ms=1_000),
    "the first call with an option": lambda: open_client.call("put", "a", "3", timeout_ms=1_000),
    "query": lambda: client.query("get", "a", level="linearizable"),
    "submit": lambda: client.submit("put", "a", "3"),
    "submit_query": lambda: client.submit_query("get", "a"),
    "view": lambda: view.call("put", "a", "3"),
    "proxy": lambda: proxy.put("a", "3"),
    "kv": lambda: kv.put("a", "3"),
    "admin": lambda: client.admin("status"),
    "admin of a node": lambda: client.admin("status", node=1),
    "the first admin of a node": lambda: open_client.admin("status", node=1),
    "status": lambda: client.status(),
    "get": lambda: under_way.get(),
    "wait": lambda: under_way.wait(1_000),
    "error": lambda: under_way.error(),
    "callback": lambda: under_way.add_done_callback(print),
}
if os.fork() == 0:
    started = time.monotonic()
    for name, attempt in attempts.items():
        try:
            attempt()
            print(name, "did not fail")
        except RaftActorsError as error:
            if type(error).__name__ != "ForkedError" or "fork" not in str(error):
                print(name, repr(error))
    client.close()
    with client:
        pass
    del dropped
    gc.collect()
    with Client([ADDRESS]) as own:
        print("own", own.call("put", "c", "1") > 0, time.monotonic() - started < 5)
    sys.exit()
print("exit", os.waitstatus_to_exitcode(os.wait()[1]))
print("parent", client.call("put", "d", "1") > 0, dropped.query("get", "b"))
"""


def test_everything_fails_in_a_child_at_once_except_closing_and_a_client_of_its_own() -> None:
    with FakeNode() as node:
        printed = run_program("from raftactors import KeyValue\n" + IN_THE_CHILD, node.address)
    assert printed.splitlines() == ["own True True", "exit 0", "parent True 1"]


def test_a_child_forked_in_a_callback_ends_the_thread_of_the_client_there() -> None:
    program = """
    client = Client([ADDRESS])
    codes, forked = [], threading.Event()
    def fork(reply):
        child = os.fork()
        if child:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            forked.set()
    client.submit("put", "a", "1").add_done_callback(fork)
    print(forked.wait(30), codes, client.call("put", "a", "2") > 0)
    """
    with FakeNode() as node:
        assert run_program(program, node.address).splitlines() == ["True [0] True"]


def test_a_client_is_neither_copied_nor_sent_to_another_process() -> None:
    with Client(["127.0.0.1:9"]) as client:
        with pytest.raises(TypeError, match="make a new one there"):
            copy.copy(client)
        with pytest.raises(TypeError, match="make a new one there"):
            multiprocessing.get_context("spawn").Process(target=print, args=(client,)).start()
