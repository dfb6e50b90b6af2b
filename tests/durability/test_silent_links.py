"""Links that fall silent are noticed within 2 s and are back within 2 s of the end (RELIABILITY F6)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.durability import packet_filter
from tests.durability.silent_links import GIVEN_UP_S, Silences, run
from tests.durability.tcp_proxy import Proxy, Silence

SLACK_MS = 500.0
"""For the polling of a busy machine: a node needs nearly all of the 2 s."""


@pytest.mark.timeout(60)
def test_a_reset_link_is_noticed_and_made_again() -> None:
    outcome = run("reset", 2)
    assert outcome.faults(SLACK_MS) == []
    assert len(outcome.noticed_ms) == len(outcome.back_ms) == 2


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["proxy", "reset", "stopped"])
def test_a_silent_link_is_noticed_and_comes_back(kind: str) -> None:
    assert run(kind, 6).faults(SLACK_MS) == []


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_black_hole_is_noticed_and_comes_back() -> None:
    if reason := packet_filter.missing():
        pytest.skip(f"no black holes: {reason}")
    assert run("blackhole", 6).faults(SLACK_MS) == []


def test_what_is_late_is_a_fault() -> None:
    silences = Silences("proxy", noticed_ms=[1_900.0, 2_100.0], back_ms=[GIVEN_UP_S * 1000, 5.0])
    assert len(silences.faults()) == 2
    assert len(silences.faults(SLACK_MS)) == 1


@pytest.fixture
def echo() -> Iterator[socket.socket]:
    """A listener whose connections the tests answer themselves."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(10)
        yield listener


def test_a_proxy_holds_what_comes_and_passes_it_on_at_the_end(echo: socket.socket) -> None:
    with Proxy({1: f"127.0.0.1:{echo.getsockname()[1]}"}) as proxy:
        port = int(proxy.addresses[1].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as near, echo.accept()[0] as far:
            far.settimeout(10)
            near.sendall(b"before")
            assert far.recv(100) == b"before"
            proxy.silence(1, Silence.HOLD, ())
            near.sendall(b"after")
            far.settimeout(0.2)
            with pytest.raises(TimeoutError):
                far.recv(100)
            proxy.go_on()
            far.settimeout(10)
            assert far.recv(100) == b"after"
            far.sendall(b"answer")
            assert near.recv(100) == b"answer"


@pytest.mark.parametrize("by", ["target", "source"])
def test_a_proxy_resets_connections_to_a_node_and_from_it(echo: socket.socket, by: str) -> None:
    with Proxy({1: f"127.0.0.1:{echo.getsockname()[1]}"}) as proxy:
        port = int(proxy.addresses[1].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as near, echo.accept()[0] as far:
            proxy.silence(1 if by == "target" else 2, Silence.RESET, {near.getsockname()[1]} if by == "source" else ())
            far.settimeout(10)
            for end in (near, far):
                with pytest.raises(ConnectionResetError):
                    end.recv(100)
