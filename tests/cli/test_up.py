"""`raftactors up`: in the foreground, in the background, continued, and each way in which it fails."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from raftactors.cli import main
from raftactors.cluster.ports import hold_port
from raftactors.errors import ExitCode

from .conftest import COMMAND, Run

BANK = """
from raftactors.app import Application, command

class Bank(Application):
    def __init__(self):
        self.money = 0

    @command
    def deposit(self, amount: int) -> int:
        self.money += amount
        return self.money
"""


@contextmanager
def foreground(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`raftactors up` in a pipe; killed if the test does not end it."""
    with subprocess.Popen(
        [*COMMAND, "up", "--set", "tick_ms=20", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.long
def test_background_and_down(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bank.py").write_text(BANK)
    done = run("up", "bank:Bank", "--nodes", "1", "--detach", "--json")
    assert done.code == 0, done.err
    assert done.document["event"] == "serving"
    assert done.document["nodes"] == 1
    supervisor = psutil.Process(done.document["pid"])
    node = psutil.Process(run("status", "--json").document["nodes"][0]["pid"])
    assert run("call", "deposit", "5").out == "5\n"
    assert run("down").out == "stopped; the data stays in .raftactors\n"
    psutil.wait_procs([supervisor, node], timeout=20)
    assert not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE
    assert not node.is_running()
    done = run("status")
    assert done.code == ExitCode.CLUSTER_UNREACHABLE
    assert done.error.startswith("the cluster in .raftactors does not run; start it with `raftactors up")
    # Without words, the folder says what goes on in it.
    assert run("up", "--detach").code == 0
    assert run("call", "deposit", "2").out == "7\n"
    assert run("down", "--json").document == {"state": "stopped"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_foreground_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with foreground(tmp_path, "--nodes", "1", "--interval-ms", "50") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert lines[0].startswith("raftactors.app.kv:KeyValue in ")
        assert lines[2].split()[:2] == ["1", "running"]
        assert lines[3].startswith("leader=1  1:leader term=")
        node = int(lines[2].split()[2])
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out.endswith(f"stopped; the data stays in {tmp_path / '.raftactors'}\n")
        assert err == ""
        assert not psutil.pid_exists(node)


def test_under_nohup_it_outlives_the_terminal_and_hears_sigterm(tmp_path: Path, run: Run) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with foreground(tmp_path, "--nodes", "1", "--json") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "serving"
            process.send_signal(signal.SIGHUP)
            assert run("status").code == 0
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGHUP, before)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1]) == {"event": "stopped"}
    assert err == ""


def test_in_the_background_of_a_script_it_keeps_sigint_ignored(tmp_path: Path, run: Run) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with foreground(tmp_path, "--nodes", "1", "--json") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "serving"
            process.send_signal(signal.SIGINT)
            assert run("down").code == 0
            out, _ = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1]) == {"event": "stopped"}


def test_a_cluster_whose_socket_is_gone_is_found_and_ended(tmp_path: Path, run: Run) -> None:
    assert run("up", "--nodes", "1", "--detach").code == 0
    shutil.rmtree(tmp_path / ".raftactors" / "control")
    assert run("status").code == 0
    shutil.rmtree(tmp_path / ".raftactors" / "control")
    assert run("down").code == 0


def test_foreground_speaks_json_and_hears_down(tmp_path: Path, run: Run) -> None:
    with foreground(tmp_path, "--nodes", "3", "--interval-ms", "50", "--json") as process:
        assert process.stdout is not None
        serving = json.loads(process.stdout.readline())
        assert serving["event"] == "serving"
        assert serving["leader_id"] in {1, 2, 3}
        assert json.loads(process.stdout.readline())["event"] == "status"
        assert run("down").code == 0
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert json.loads(out.splitlines()[-1]) == {"event": "stopped"}
        assert err == ""


def test_foreground_shows_a_live_table_on_a_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "up", "--nodes", "1", "--set", "tick_ms=20", "--interval-ms", "50"],
        cwd=tmp_path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        os.close(slave)
        shown = b""
        while b"leader" not in shown:
            assert select.select([master], [], [], 60)[0]
            shown += os.read(master, 65_536)
        assert b"\x1b[" in shown
        process.send_signal(signal.SIGINT)
        shown += read_to_end(master)
        assert process.wait(60) == 0
        assert b"stopped; the data stays in" in shown
        assert b"Traceback" not in shown
    os.close(master)


def read_to_end(terminal: int) -> bytes:
    shown = b""
    while True:
        assert select.select([terminal], [], [], 60)[0]
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # The other end of a terminal has closed.
            return shown
        if not chunk:
            return shown
        shown += chunk


@pytest.mark.long
def test_no_node_outlives_a_killed_supervisor_and_the_data_goes_on(run: Run, tmp_path: Path) -> None:
    assert run("up", "--nodes", "3", "--detach", "--set", "tick_ms=20").code == 0
    assert run("put", "kept", "yes").code == 0
    manifest = json.loads((tmp_path / ".raftactors" / "cluster.json").read_text())
    nodes = [psutil.Process(record["pid"]) for record in manifest["processes"]]
    assert len(nodes) == 3
    psutil.Process(manifest["supervisor"]["pid"]).kill()
    _, alive = psutil.wait_procs(nodes, timeout=30)
    assert not alive
    done = run("get", "kept")
    assert done.code == ExitCode.CLUSTER_UNREACHABLE
    assert "does not run" in done.error
    assert run("up", "--detach", "--set", "tick_ms=20").code == 0
    assert run("get", "kept").out == "yes\n"
    assert run("down").code == 0
    assert not Path(manifest["control_socket"]).parent.exists()


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["foreground", "background"])
def test_an_unknown_application(run: Run, detach: list[str]) -> None:
    done = run("up", "nowhere:Bank", *detach)
    assert done.code == ExitCode.APPLICATION_UNKNOWN
    assert done.error.startswith("there is no module 'nowhere'; ")


def test_an_application_class_that_its_module_does_not_have(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bank.py").write_text(BANK)
    done = run("up", "bank.py:Till")
    assert done.code == ExitCode.APPLICATION_UNKNOWN
    assert done.error.endswith("has no class Till; it has Bank")


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["foreground", "background"])
def test_a_port_in_use(run: Run, detach: list[str]) -> None:
    held = hold_port()
    held._socket.listen()
    with closing(held):
        done = run("up", "--nodes", "1", "--base-port", str(held.port), *detach)
    assert done.code == ExitCode.ADDRESS_IN_USE
    assert done.error == f"{held.address} is in use by another process; choose another port"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nowhere"], ExitCode.APPLICATION_UNKNOWN, "write it as MODULE:CLASS or FILE.py:CLASS"),
        (["--nodes", "0"], ExitCode.CONFIG, "nodes is 0; it must be a whole number from 1 to 31"),
        (["--nodes", "three"], ExitCode.USAGE, "Invalid value for '--nodes'"),
        (["--base-port", "65535"], ExitCode.CONFIG, "base_port is 65535"),
        (["--set", "tick_ms=0"], ExitCode.CONFIG, "tick_ms is 0; it must be a whole number from 1 to 10000"),
        (["--set", "tick_ms=soon"], ExitCode.CONFIG, "tick_ms is 'soon'"),
        (["--set", "election_ticks=2"], ExitCode.CONFIG, "it must be at least 5 heartbeats"),
        (["--set", "colour=red"], ExitCode.CONFIG, "there is no setting 'colour'; choose from "),
        (["--set", "cluster_id=5"], ExitCode.CONFIG, "there is no setting 'cluster_id'"),
        (["--set", "tick_ms"], ExitCode.CONFIG, "write it as NAME=VALUE"),
        (["--colour", "red"], ExitCode.USAGE, "No such option: --colour"),
        (["--data-dir", "/proc/version"], ExitCode.DATA_UNREADABLE, "is a file; choose a folder"),
        (["--data-dir", "/proc/nowhere"], ExitCode.DATA_UNREADABLE, "cannot be made"),
        (["--data-dir", "/proc"], ExitCode.FAILURE, "check the path and its mode"),
    ],
)
def test_bad_words(
    words: list[str],
    code: ExitCode,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["up", *words]) == code
    plain = capsys.readouterr().err
    assert plain.startswith("raftactors: ")
    assert text in plain
    assert plain.count("\n") == 1
    assert main(["up", "--json", *words]) == code
    error = json.loads(capsys.readouterr().err)["error"]
    assert text in error["text"]
    assert error["exit_code"] == code


def test_a_folder_with_other_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".raftactors").mkdir()
    (tmp_path / ".raftactors" / "thesis.txt").write_text("precious")
    done = run("up")
    assert done.code == ExitCode.DATA_FOREIGN
    assert "holds other files (thesis.txt) and no cluster; choose a new or an empty data folder" in done.error


@pytest.mark.long
def test_a_folder_of_another_application_or_size(run: Run) -> None:
    assert run("up", "--nodes", "1", "--detach").code == 0
    assert run("down").code == 0
    done = run("up", "other:Other")
    assert done.code == ExitCode.DATA_FOREIGN
    assert "belongs to a cluster of raftactors.app.kv:KeyValue, not other:Other" in done.error
    done = run("up", "--nodes", "3", "--detach")
    assert done.code == ExitCode.DATA_FOREIGN
    assert "belongs to a cluster of 1 nodes, not 3" in done.error


def test_damaged_data_is_named(run: Run, tmp_path: Path) -> None:
    assert run("up", "--nodes", "1", "--detach").code == 0
    assert run("put", "key", "value").code == 0
    assert run("down").code == 0
    identity = tmp_path / ".raftactors" / "node-1" / "data" / "IDENTITY"
    identity.write_bytes(bytes(len(identity.read_bytes())))
    done = run("up")
    assert done.code == ExitCode.DATA_CORRUPT
    assert "IDENTITY" in done.error


def test_the_environment_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAFTACTORS_DATA_DIR", str(tmp_path / "elsewhere"))
    assert main(["status"]) == ExitCode.CLUSTER_UNREACHABLE
    assert f"no cluster in {tmp_path / 'elsewhere'}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["up", "--help"], ["call", "--help"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == ExitCode.OK
    assert "Usage: raftactors" in capsys.readouterr().out


def test_no_words_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    assert capsys.readouterr().err.splitlines()[-1].startswith("raftactors: ")
