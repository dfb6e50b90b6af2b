"""What a stranger sends never reaches an assertion of libzmq. The same bytes abort a listener with a mark."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.transport.zmtp import COMMAND, MORE, Stranger, frame, ping, ready

ROOT = Path(__file__).parents[2]
ABORTED = -6
MARK = 4


class Victim:
    """The process of `victim.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()

    def take_all(self) -> str:
        """What the listener took; empty when its process is gone."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        """Let it end by itself; returns its exit code."""
        self.process.communicate(timeout=30)
        return self.process.returncode


@contextmanager
def victim(kind: str, mark: str = "") -> Iterator[Victim]:
    """Start a listener of `kind` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.transport.victim", kind, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        yield Victim(process)
    finally:
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.communicate()


def stand_still_and_reset(target: Victim) -> None:
    """Send more messages than a mark of MARK lets in and a PING, then a reset; the rest is read afterwards."""
    with Stranger(target.address) as stranger:
        stranger.send(frame(b"hello") * (MARK + 3) + ping() * 3)
        with Stranger(target.address) as witness:  # What it sent later arrives later: so did the other's.
            witness.send(frame(b"x"))
        stranger.reset()


@pytest.mark.parametrize("kind", ["clients", "peers"])
def test_a_ping_before_a_reset_does_not_abort(kind: str) -> None:
    with victim(kind) as target:
        for _ in range(20):
            stand_still_and_reset(target)
            assert target.take_all(), "aborted"
        assert target.end() == 0


def test_the_same_aborts_a_listener_with_a_mark() -> None:
    with victim("clients", str(MARK)) as target:
        while target.process.poll() is None:
            stand_still_and_reset_quietly(target)
            target.take_all()
        assert target.process.returncode == ABORTED


def stand_still_and_reset_quietly(target: Victim) -> None:
    try:
        stand_still_and_reset(target)
    except OSError:
        target.process.wait(30)


@pytest.mark.parametrize("kind", ["clients", "peers"])
def test_odd_commands_identities_and_greetings_do_not_abort(kind: str) -> None:
    oddities = [
        ping(0), ping(65_535, bytes(16)), ping(1, bytes(300)), frame(b"\x04PING", COMMAND), frame(b"\x04PONG", COMMAND),
        frame(b"", COMMAND), frame(b"\xff", COMMAND), frame(b"\x09SUBSCRIBE", COMMAND), frame(b"\x06CANCEL", COMMAND),
        frame(b"\x05ERROR\x03bad", COMMAND), ready(), ready() * 50, frame(b"x", MORE) * 1_000,
        frame(b"", MORE) + ready(), frame(b"x", MORE | COMMAND),
        b"\xff" * 300, b"\x02" + b"\x7f" + b"\xff" * 7, bytes(300),
    ]  # fmt: skip
    with victim(kind) as target:
        for identity in (b"", b"x", b"\0abcd", bytes(5), b"n" * 255):
            for oddity in oddities:
                with Stranger(target.address, identity=identity) as stranger:
                    stranger.send(frame(b"first") + oddity)
                    stranger.reset()
        for greeting in (
            b"\x01\x00",
            b"\x01\x00" + frame(b"x") * 10,
            b"\xff" + bytes(8) + b"\x7f\x00\x05",
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            with Stranger(target.address, greets=False) as stranger:
                stranger.send(greeting)
                stranger.reset()
        assert target.take_all(), "aborted"
        assert target.end() == 0
