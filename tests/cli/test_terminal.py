"""What reaches the reader: in any encoding, with and without colours, to a pipe that closes, to a disk that is full."""

from __future__ import annotations

import io
import os
import pty
import select
import struct
import subprocess
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

from raftactors.cli.terminal import make_console, output_width, visible
from raftactors.errors import ExitCode

from .conftest import COMMAND, Run

TEXT = "żółć ☃ 漢 [b]"
ESCAPED = r"\u017c\xf3\u0142\u0107 \u2603 \u6f22 [b]"

Shell = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def folder(serving: Run) -> Path:
    assert serving("put", "text", TEXT).code == 0
    return Path(str(serving("status", "--json").document["data_dir"]))


@pytest.fixture
def shell(folder: Path) -> Shell:
    """Runs a line of the shell, where `$R` is the command, with the cluster's folder named in the environment."""

    def call(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "RAFTACTORS_DATA_DIR": str(folder), "R": " ".join(COMMAND), **environment}
        return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, timeout=90, check=False)

    return call


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"PYTHONIOENCODING": "utf-8"}, TEXT.encode()),
        ({"PYTHONIOENCODING": "ascii"}, ESCAPED.encode()),
        ({"PYTHONIOENCODING": "ascii:replace"}, b"???? ? ? [b]"),
        ({"PYTHONIOENCODING": "latin-1"}, ESCAPED.replace(r"\xf3", "ó").encode("latin-1")),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ESCAPED.encode()),
    ],
)
def test_any_encoding(shell: Shell, environment: dict[str, str], shown: bytes) -> None:
    done = shell("$R get text", **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, shown + b"\n", b"")


def test_an_error_in_any_encoding(shell: Shell) -> None:
    done = shell("$R get ż", PYTHONIOENCODING="ascii")
    assert done.returncode == ExitCode.FAILURE
    assert done.stderr.startswith(rb"raftactors: there is no key '\u017c'")


def test_a_name_that_is_no_text_of_the_encoding(shell: Shell, tmp_path: Path) -> None:
    done = shell("$R status --data-dir $'gone\\xff'")
    assert (done.returncode, done.stderr.count(b"\n")) == (ExitCode.CLUSTER_UNREACHABLE, 1)
    assert rb"no cluster in gone\udcff" in done.stderr


def test_a_reader_that_has_gone(shell: Shell) -> None:
    done = shell("{ $R logs --lines 1000; echo $? >&2; } | head -c 1")
    # A short log is written before `head` ends.
    assert done.stderr.strip() in {b"141", b"0"}
    closed = shell("exec 3> >(exit); wait $!; $R status >&3", BASH_ENV="")
    assert (closed.returncode, closed.stderr) == (ExitCode.BROKEN_PIPE, b"")


def test_output_that_nobody_can_take(shell: Shell) -> None:
    full = shell("$R get text >/dev/full")
    assert full.returncode == ExitCode.FAILURE
    assert full.stderr == b"raftactors: the output cannot be written: No space left on device; make room there, or " + (
        b"send it elsewhere\n"
    )
    assert shell("$R get text >&-").returncode == 0
    closed = shell("$R put text - <&-")
    assert (closed.returncode, closed.stderr) == (
        ExitCode.CONFIG,
        b"raftactors: standard input is closed; give the value as a word\n",
    )


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_in_a_pipe_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    make_console().print("[red]text[/red] :snake: 5", style="green")
    shown = stream.getvalue()
    assert ("\x1b[32m" in shown) == coloured
    assert "[red]text[/red] :snake: 5" in shown


@pytest.mark.parametrize(
    ("columns", "width"), [("80", 80), ("1", 1), ("0", None), ("", None), ("wide", None), ("-5", None), ("²", None)]
)
def test_the_width_of_a_pipe_is_what_columns_says(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int | None
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert output_width() == width


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b[31m\nb\x9b\u2028\t[c] ż") == r"a\x1b[31m\nb\x9b\u2028\t[c] ż"


def in_terminal(*words: str, cwd: Path, columns: int) -> tuple[int, str]:
    """Run a command in a terminal of that width; returns its exit code and what it showed."""
    main, other = pty.openpty()
    ioctl(main, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    with subprocess.Popen(
        [*COMMAND, *words], cwd=cwd, stdin=other, stdout=other, stderr=other, env=environment
    ) as child:
        os.close(other)
        shown = b"".join(_read(main))
        code = child.wait(60)
    os.close(main)
    return code, shown.decode().replace("\r\n", "\n")


def _read(terminal: int) -> Iterator[bytes]:
    while select.select([terminal], [], [], 60)[0]:
        try:
            yield os.read(terminal, 65_536)
        except OSError:  # The other end has closed.
            return


@pytest.mark.parametrize(("columns", "left_out"), [(200, []), (80, []), (50, ["pid", "commit", "cpu", "memory"])])
def test_the_status_fits_the_terminal(folder: Path, columns: int, left_out: list[str]) -> None:
    code, shown = in_terminal("status", "--data-dir", str(folder), columns=columns, cwd=folder)
    assert code == 0
    _, header, *rows = [line for line in shown.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines() if line]
    names = ["node", "state", "pid", "role", "term", "commit", "applied", "disk", "cpu", "memory"]
    assert header.split() == [name for name in names if name not in left_out]
    assert all(len(line) <= columns for line in [header, *rows[3:]])
    note = f"left out to fit {columns} columns: {', '.join(left_out)}; --json has all"
    assert " ".join(rows[3:]) == (note if left_out else "")


def test_brackets_in_names_are_shown_as_they_are(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "run [old]" / "a[" / "b]c"
    assert run("up", "--nodes", "1", "--detach", "--data-dir", str(folder)).code == 0
    try:
        code, shown = in_terminal("status", "--data-dir", str(folder), cwd=tmp_path, columns=250)
        assert (code, f"raftactors.app.kv:KeyValue in {folder}\n" in shown) == (0, True)
    finally:
        assert run("down", "--data-dir", str(folder)).out == f"stopped; the data stays in {folder}\n"
    stopped = run("status", "--data-dir", str(folder))
    assert f"start it with `raftactors up --data-dir '{folder}'`" in stopped.error
