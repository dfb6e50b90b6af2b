from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from raftactors.cluster.process import NODE_MARK, NodeProcess, NodeStartError
from raftactors.config import NodeConfig
from raftactors.errors import ApplicationUnknownError, ExitCode, RaftActorsError

Make = Callable[..., NodeProcess]


def wait_end(pid_fd: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pid_fd, selectors.EVENT_READ)
        assert selector.select(20), "the process did not end"


def test_start_and_terminate(fake_process: Make) -> None:
    process = fake_process("serve")
    process.start()
    process.wait_ready(20_000)
    assert process.is_alive
    assert process.incarnation == 1
    assert process.usage().rss_bytes > 0
    assert process.exit_text() == "running"
    assert psutil.Process(process.pid).environ()[NODE_MARK] == "1"
    assert os.getpgid(process.pid) == process.pid
    assert process.terminate(20_000) == 0
    assert process.exit_code == 0
    assert process.usage().rss_bytes == 0


def test_started_again_after_kill(fake_process: Make) -> None:
    process = fake_process("serve")
    process.start()
    process.wait_ready(20_000)
    process.kill()
    assert process.exit_code == -signal.SIGKILL
    assert process.exit_text().startswith("ended by SIGKILL")
    process.start()
    process.wait_ready(20_000)
    assert process.incarnation == 2


def test_a_running_process_is_not_started_twice(fake_process: Make) -> None:
    process = fake_process("serve")
    process.start()
    with pytest.raises(RaftActorsError, match="runs already"):
        process.start()


def test_output_goes_to_the_log_and_nobody_has_to_read_it(fake_process: Make) -> None:
    process = fake_process("noise")
    process.start()
    process.wait_ready(20_000)
    # A megabyte of output does not fit a pipe. The process ends in order only if it could write all of it.
    assert process.terminate(20_000) == 0
    log = process.log_path.read_bytes()
    assert b"hello from the application" in log
    assert log.count(b"x") > 900_000
    assert b"noise is over" in log
    assert b'"event"' not in log


def test_a_refused_start_raises_the_error_of_its_exit_code(fake_process: Make) -> None:
    process = fake_process("refuse")
    process.start()
    with pytest.raises(ApplicationUnknownError, match=r"^there is no module 'refuse'; install it$"):
        process.wait_ready(20_000)
    assert "exit code 11 (APPLICATION_UNKNOWN): there is no module" in process.exit_text()


def test_a_refused_start_is_understood_from_the_report_alone(fake_process: Make) -> None:
    process = fake_process("report")
    process.start()
    with pytest.raises(ApplicationUnknownError, match=r"^there is no module 'report'; install it$"):
        process.wait_ready(20_000)


@pytest.fixture
def children_reaped_by_the_kernel() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("children_reaped_by_the_kernel")
def test_a_program_that_ignores_sigchld_sees_the_end_and_does_not_invent_an_exit_code(fake_process: Make) -> None:
    process = fake_process("serve")
    process.start()
    process.wait_ready(20_000)
    process.kill()
    assert not process.is_alive
    assert process.exit_code is None
    assert "its exit code is unknown, because this program ignores SIGCHLD" in process.exit_text()
    assert process.terminate(20_000) == 0
    refusing = fake_process("report", 2)
    refusing.start()
    with pytest.raises(ApplicationUnknownError, match="there is no module 'report'"):
        refusing.wait_ready(20_000)
    assert refusing.exit_code == ExitCode.APPLICATION_UNKNOWN


def test_a_configuration_written_during_a_start_keeps_the_pipes(fake_process: Make) -> None:
    process = fake_process("serve")
    process.start()
    config = NodeConfig.from_json(process.config_path.read_text())
    assert min(config.parent_fd, config.ready_fd) > 2
    process.configure(replace(config, parent_fd=-1, ready_fd=-1, incarnation_min=5))
    again = NodeConfig.from_json(process.config_path.read_text())
    assert again == replace(config, incarnation_min=5)


def test_a_start_without_descriptors_leaves_nothing_open(fake_process: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    process = fake_process("serve")
    before = os.listdir("/proc/self/fd")

    def fail(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", fail)
        with pytest.raises(OSError, match="Too many open files"):
            process.start()
    assert not process.is_alive
    assert os.listdir("/proc/self/fd") == before
    process.start()
    process.wait_ready(20_000)


def test_an_end_without_explanation_names_exit_code_and_log(fake_process: Make) -> None:
    process = fake_process("deaf")
    process.start()
    process.kill()
    with pytest.raises(NodeStartError, match="node 1 did not start: ended by SIGKILL"):
        process.wait_ready(20_000)


def test_an_older_failure_does_not_explain_a_newer_one(fake_process: Make) -> None:
    process = fake_process("refuse")
    process.start()
    with pytest.raises(ApplicationUnknownError):
        process.wait_ready(20_000)
    process.config_path.write_text(process.config_path.read_text().replace("refuse:", "deaf:"))
    process.start()
    process.kill()
    assert "refuse" not in str(process.start_error())


def test_silence_ends_at_the_deadline(fake_process: Make) -> None:
    process = fake_process("deaf")
    process.start()
    with pytest.raises(NodeStartError, match="did not serve within 50 ms"):
        process.wait_ready(50)


def test_pause_and_resume(fake_process: Make) -> None:
    process = fake_process("serve")
    process.start()
    process.wait_ready(20_000)
    process.pause()
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    process.resume()
    os.waitid(os.P_PID, process.pid, os.WCONTINUED)
    assert process.is_alive
    process.pause()
    assert process.terminate(20_000) == 0, "a paused process must hear SIGTERM"


def test_a_dead_process_cannot_be_paused(fake_process: Make) -> None:
    with pytest.raises(RaftActorsError, match="does not run"):
        fake_process("serve").pause()


def test_a_stubborn_process_is_killed(fake_process: Make) -> None:
    process = fake_process("stubborn")
    process.start()
    process.wait_ready(20_000)
    assert process.terminate(50) == -signal.SIGKILL


PARENT = """
import json, os, signal, sys
from pathlib import Path
from raftactors.cluster.process import NodeProcess
folder = Path(sys.argv[1])
process = NodeProcess(1, folder / "config.json", folder / "log", command=tuple(json.loads(sys.argv[2])))
process.start()
process.wait_ready(20_000)
copy = os.fork() if sys.argv[3] == "fork" else 0
if sys.argv[3] == "fork" and copy == 0:
    signal.pause()
print(process.pid, copy, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("variant", ["alone", "fork"])
def test_no_orphan_when_the_parent_is_killed(fake_process: Make, tmp_path: Path, variant: str) -> None:
    """Also when a forked copy of the parent, with copies of its descriptors, lives on."""
    process = fake_process("serve")
    arguments = [str(tmp_path / "node-1"), json.dumps(process._command), variant]
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        node, copy = map(int, parent.stdout.readline().split())
        node_fd = os.pidfd_open(node)
        try:
            parent.kill()
            wait_end(node_fd)
        finally:
            os.close(node_fd)
            if copy:
                os.kill(copy, signal.SIGKILL)
