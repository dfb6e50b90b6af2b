"""How long a client lives: as long as somebody uses it, and as the interpreter; never longer, and never loudly."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raftactors.client import Client
from tests.client.fake_node import FakeNode
from tests.client.programs import run_program

DEADLINE_S = 30


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "raftactors-client"]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def test_a_dropped_client_ends_by_itself_and_gives_everything_back() -> None:
    with FakeNode() as node:
        before = descriptors()
        for _ in range(20):
            assert Client([node.address]).call("put", "a", "b") > 0
        gc.collect()
        until(lambda: not client_threads(), "threads of dropped clients are left")
        until(lambda: not node.host.session_count, "sessions of dropped clients are left")
        until(lambda: descriptors() <= before, "descriptors of dropped clients are left")


def test_what_a_dropped_client_was_asked_for_still_gets_its_result() -> None:
    with FakeNode() as node:
        reply = Client([node.address]).submit("put", "a", "b")
        proxy = Client([node.address]).kv
        view = Client([node.address]).with_options(timeout_ms=20_000)
        gc.collect()
        assert reply.get() == 1
        assert proxy.get("a") == view.query("get", "a") == "b"
        del proxy, view
        until(lambda: not client_threads(), "the threads are left")


def test_a_client_in_a_cycle_is_collected() -> None:
    with FakeNode() as node:

        class Holder:
            def __init__(self) -> None:
                self.client = Client([node.address])
                self.answer = self.client.submit("put", "a", "b")
                self.answer.add_done_callback(self.done)

            def done(self, _: object) -> None:
                pass

        assert Holder().answer.get() == 1
        gc.collect()
        until(lambda: not client_threads(), "the thread is left")


def test_all_clients_of_a_process_share_one_context() -> None:
    with FakeNode() as node, Client([node.address]) as first:
        first.call("put", "a", "b")
        before = descriptors()
        clients = [Client([node.address]) for _ in range(10)]
        for client in clients:
            client.call("put", "a", "b")
        # A wake-up, a mailbox and a connection each; the node in this process has the other end of the last.
        assert descriptors() - before <= 4 * len(clients)
        for client in clients:
            client.close()
        until(lambda: descriptors() <= before, "closed clients keep descriptors")
        assert first.call("put", "a", "c") > 0


PROGRAMS = {
    "nobody closed it": ('client = Client([ADDRESS]); print(client.call("put", "a", "b") > 0)', "True"),
    "nobody answers it": ('client = Client(["127.0.0.1:9"]); client.submit("put", "a", "b"); print("end")', "end"),
    "a daemon thread waits for it": (
        """
        client = Client(["127.0.0.1:9"], timeout_ms=60_000)
        replies = [client.submit("put", "a", "b")]
        threading.Thread(target=replies[0].get, daemon=True).start()
        print("end")
        """,
        "end",
    ),
    "daemon threads go on using it": (
        """
        client, begun = Client([ADDRESS]), threading.Semaphore(0)
        def work():
            while True:
                client.call("put", "a", "b")
                begun.release()
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(30):
            begun.acquire()
        print("end")
        """,
        "end",
    ),
    "a callback never ends": (
        """
        client, begun = Client([ADDRESS]), threading.Event()
        client.submit("put", "a", "b").add_done_callback(lambda _: (begun.set(), threading.Event().wait()))
        print(begun.wait(30))
        """,
        "True",
    ),
    "its session is closed slowly": (
        """
        client = Client(["127.0.0.1:9"], options=ClientOptions(close_ms=600_000))
        client.submit("put", "a", "b")
        print("end")
        """,
        "end",
    ),
    "a worker goes on after the main thread": (
        """
        client = Client([ADDRESS])
        client.call("put", "a", "b")
        def work():
            threading.main_thread().join()
            print(client.call("put", "a", "c") > 0, Client([ADDRESS]).query("get", "a"))
        threading.Thread(target=work).start()
        """,
        "True c",
    ),
    "an exit function uses it": (
        """
        import atexit
        client = Client([ADDRESS])
        atexit.register(lambda: print(client.call("put", "a", "b") > 0))
        """,
        "True",
    ),
    "a pool of threads is at work": (
        """
        from concurrent.futures import ThreadPoolExecutor
        client, pool = Client([ADDRESS]), ThreadPoolExecutor(4)
        done = [pool.submit(client.call, "put", "a", str(number)) for number in range(200)]
        done[-1].add_done_callback(lambda future: print(future.result() > 0))
        """,
        "True",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_ends_quietly_and_soon_although(name: str) -> None:
    body, printed = PROGRAMS[name]
    with FakeNode() as node:
        assert run_program(body, node.address).splitlines() == [printed]
