"""Standard output and error of a node: what an application does with them reaches the log and hurts nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

START = """
import io, os, sys
from raftactors.node.output import NodeOutput
output = NodeOutput(log_bytes_max=int(sys.argv[1]))
output.look_after()
"""
END = "output.stream.write('the end\\n')\n"


def run(application: str, target: int, *, log_bytes_max: int = 0, **environment: str) -> int:
    """Run a program that prints, with both streams on `target`; its exit code."""
    return subprocess.run(
        [sys.executable, "-P", "-c", START + application + "\n" + END, str(log_bytes_max)],
        stdin=subprocess.DEVNULL,
        stdout=target,
        stderr=target,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    ).returncode


def log_of(path: Path, application: str, *, log_bytes_max: int = 0, **environment: str) -> bytes:
    with path.open("ab") as log:
        assert run(application, log.fileno(), log_bytes_max=log_bytes_max, **environment) == 0
    return path.read_bytes()


@pytest.mark.parametrize(
    "deed",
    [
        "sys.stdout.close(); sys.stderr.close(); print('after')",
        "sys.stdout.buffer.close(); sys.stdout.buffer.raw.close(); print('after')",
        "os.close(1); os.close(2); print('after')",
        "os.closerange(0, 3); output.look_after(); assert os.open('/dev/null', os.O_RDONLY) > 2; print('after')",
        "sys.stdout = sys.__stdout__; sys.stderr = None; print('after')",
        "sys.stderr = io.StringIO(); print('lost', file=sys.stderr); print('after')",
        "sys.stdout.buffer.write(bytes(range(128, 256))); sys.stdout.flush(); print('after')",
        "print('\\udc80 \\u20ac'); print('after')",
        "sys.stdout.detach(); sys.stdout = sys.__stdout__; print('after')",
        "import subprocess; subprocess.run(['echo', 'after'], stdout=sys.stdout, check=True)",
    ],
)
def test_what_is_done_to_the_streams_leaves_the_log_usable(tmp_path: Path, deed: str) -> None:
    log = log_of(tmp_path / "log", deed)
    assert b"after\n" in log
    assert log.endswith(b"the end\n")


def test_the_encoding_is_the_same_in_every_environment(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", "print('\\u20ac')", PYTHONIOENCODING="utf-16")
    assert log == "\u20ac\nthe end\n".encode()


def test_a_reader_that_does_not_read_is_waited_for_once(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        # Two hundred lines after the pipe is full: a wait of a second for each would not come to an end here.
        assert run("for _ in range(400): print('x' * 1000)", writer) == 0
    finally:
        os.close(writer)
        os.close(reader)


def test_what_was_dropped_is_told_once_there_is_a_reader_again() -> None:
    application = """
for _ in range(200): print('x' * 1000)
os.read(int(os.environ['READER']), 1_000_000)
print('again')
sys.stderr.write(f"{os.read(int(os.environ['READER']), 1_000_000).decode()}")
"""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    program = START + application
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program, "0"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "READER": str(reader)},
        pass_fds=(reader,),
    ) as process:
        os.close(writer)
        os.close(reader)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"bytes of output were dropped\n" in told
    assert told.endswith(b"again\n")


def test_a_full_disk_and_a_reader_that_is_gone_raise_nothing() -> None:
    with open("/dev/full", "wb") as full:
        assert run("print('x' * 100_000)", full.fileno()) == 0
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run("print('x' * 100_000)", writer) == 0
    finally:
        os.close(writer)


def test_a_log_stays_small_whatever_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = log_of(path, "for _ in range(5_000): print('x' * 1000)", log_bytes_max=100_000)
    assert len(log) < 1_200_000, "looked at after every MiB"
    assert 0 < (tmp_path / "log.1").stat().st_size <= 1_200_000
    assert (tmp_path / "log.1").stat().st_mode & 0o777 == 0o600


def test_a_log_that_is_full_at_the_start_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an old and long log\n" * 100)
    assert log_of(tmp_path / "log", "", log_bytes_max=1_000) == b"the end\n"
    assert (tmp_path / "log.1").read_text() == "an old and long log\n" * 50


def test_a_file_that_is_no_log_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("somebody's own file\n")
    assert log_of(tmp_path / "log", "") == b"somebody's own file\nthe end\n"


def test_closed_standard_descriptors_come_back_as_nothing(tmp_path: Path) -> None:
    target = tmp_path / "log"
    program = (
        "import os, sys; os.closerange(0, 3); from raftactors.node.output import NodeOutput; output = NodeOutput(); "
        "print('nowhere'); output.print_line('nowhere'); "
        "sys.exit(0 if os.open(sys.argv[1], os.O_CREAT | os.O_RDWR) > 2 else 1)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program, str(target)], timeout=60, check=False).returncode == 0
    assert target.read_bytes() == b""
