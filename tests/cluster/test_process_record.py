"""A process is recognized by its pid and its start, counted from the boot of the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import psutil
import pytest

from raftactors.cluster.process_record import ProcessRecord


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_step_of_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    record = ProcessRecord.of(os.getpid(), node_id=3)
    boot_s = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_s + 3600)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot_s + 3600)
    assert record == ProcessRecord.of(os.getpid(), node_id=3)
    assert record.find() is not None
    assert ProcessRecord.parse(asdict(record)) == record


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another boot"}, {"pid": 0}, {"pid": -1}])
def test_another_process_is_not_taken_for_it_nor_ended(change: dict[str, int | str]) -> None:
    stranger = replace(ProcessRecord.of(os.getpid(), node_id=1), **change)  # type: ignore[arg-type]
    assert stranger.find() is None
    assert not stranger.is_stopped()
    assert stranger.end(signal.SIGKILL, 0), "this process was not killed, as it still runs"


def test_a_record_of_an_older_version_is_read_and_found_no_more() -> None:
    record = ProcessRecord.parse({"node_id": 1, "pid": os.getpid(), "created_s": psutil.Process().create_time()})
    assert (record.node_id, record.pid) == (1, os.getpid())
    assert record.find() is None


@pytest.mark.parametrize("document", [{}, {"node_id": 1, "pid": "7", "start_ticks": 1, "boot_id": ""}, {"colour": 1}])
def test_what_is_no_record_is_refused(document: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        ProcessRecord.parse(document)


def test_an_end_is_waited_for_and_a_zombie_is_one(child: subprocess.Popen[bytes]) -> None:
    record = ProcessRecord.of(child.pid, node_id=1)
    assert not record.end(signal.SIGCONT, 0), "it goes on"
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    assert record.is_stopped()
    assert record.end(signal.SIGKILL, 20_000)
    assert record.find() is None, "it is a zombie now"
    assert record.end(signal.SIGKILL, 0)


def test_a_name_that_looks_like_the_end_of_a_name() -> None:
    program = "import sys; open('/proc/self/comm', 'w').write(') S (1 2'); print('named', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"named\n"
        assert ProcessRecord.of(child.pid, node_id=1).find() is not None
        child.communicate()
