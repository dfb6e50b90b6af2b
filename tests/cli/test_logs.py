"""`raftactors logs`: of all nodes or one, running or not, once or for as long as somebody looks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from raftactors.cli import main
from raftactors.cluster.manifest import Manifest
from raftactors.config import Member
from raftactors.errors import ExitCode

from .conftest import COMMAND, Run

Captured = pytest.CaptureFixture[str]
LINE = "2026-01-02 03:04:{:02},000 {} node=1 {}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a stopped cluster of two nodes whose logs hold three lines each."""
    members = tuple(
        Member(node_id=number, peer_address="127.0.0.1:1", client_address="127.0.0.1:2") for number in (1, 2)
    )
    Manifest(
        cluster_id=9, application="a:B", application_identity="a:B", import_paths=(), members=members, has_served=True
    ).save(tmp_path)
    for number in (1, 2):
        (tmp_path / f"node-{number}").mkdir()
        lines = [LINE.format(second + number, "INFO", f"[red]n{number}") for second in (0, 2, 4)]
        (tmp_path / f"node-{number}" / "log").write_text("".join(lines))
    return tmp_path


def shown(capsys: Captured, *words: str) -> str:
    assert main(["logs", *words]) == 0
    return capsys.readouterr().out


def test_all_nodes_in_the_order_of_time(folder: Path, capsys: Captured) -> None:
    lines = shown(capsys, "--data-dir", str(folder)).splitlines()
    assert [line[:4] for line in lines] == ["1 | ", "2 | "] * 3
    assert lines[0] == "1 | " + LINE.format(1, "INFO", "[red]n1").rstrip()
    assert len(shown(capsys, "--lines", "1", "--data-dir", str(folder)).splitlines()) == 2
    assert shown(capsys, "-n", "0", "--data-dir", str(folder)) == ""
    (folder / "supervisor.log").write_text("a print of up\n")
    assert "supervisor | a print of up\n" in shown(capsys, "--data-dir", str(folder))
    assert shown(capsys, "supervisor", "--data-dir", str(folder)) == "a print of up\n"


def test_one_node_has_no_prefix(folder: Path, capsys: Captured) -> None:
    expected = LINE.format(4, "INFO", "[red]n2") + LINE.format(6, "INFO", "[red]n2")
    for name in ("2", "node-2"):
        assert shown(capsys, name, "-n", "2", "--data-dir", str(folder)) == expected


def test_json_is_an_object_a_line(folder: Path, capsys: Captured) -> None:
    (folder / "node-1" / "log").write_text(LINE.format(1, "ERROR", "x") + "Traceback\x1b[31m\n")
    first, second = shown(capsys, "1", "--json", "--data-dir", str(folder)).splitlines()
    assert json.loads(first) == {
        "node": 1,
        "log": "node-1",
        "time": "2026-01-02T03:04:01.000",
        "level": "ERROR",
        "text": LINE.format(1, "ERROR", "x").rstrip(),
    }
    assert json.loads(second)["level"] is None
    assert json.loads(second)["text"] == "Traceback\x1b[31m"
    # What a node wrote moves no cursor.
    assert shown(capsys, "1", "-n", "1", "--data-dir", str(folder)) == "Traceback\\x1b[31m\n"


@pytest.mark.parametrize("name", ["7", "0", "-1", "one", "supervisor"])
def test_an_unknown_node(folder: Path, capsys: Captured, name: str) -> None:
    assert main(["logs", "--data-dir", str(folder), "--", name]) == ExitCode.CONFIG
    assert f"there is no log of '{name}' in {folder}; choose from 1, 2, or name none" in capsys.readouterr().err


def test_nothing_there(tmp_path: Path, folder: Path, capsys: Captured) -> None:
    assert main(["logs", "--data-dir", str(tmp_path / "nowhere")]) == ExitCode.CLUSTER_UNREACHABLE
    assert f"no cluster in {tmp_path / 'nowhere'}; start one" in capsys.readouterr().err
    (folder / "node-1" / "log").unlink()
    assert main(["logs", "1", "--data-dir", str(folder)]) == ExitCode.CONFIG
    assert "nothing has been logged" in capsys.readouterr().err


def test_following_ends_with_ctrl_c(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "logs", "--follow", "--lines", "1", "--data-dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert [process.stdout.readline()[:4] for _ in range(2)] == ["1 | ", "2 | "]
            log = folder / "node-1" / "log"
            log.replace(log.with_name("log.1"))
            log.write_text("a new log\n")
            assert process.stdout.readline() == "1 | a new log\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (ExitCode.INTERRUPTED, "", "")


def test_following_ends_when_nobody_reads(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "logs", "1", "--follow", "--data-dir", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            os.read(process.stdout.fileno(), 1)
            process.stdout.close()
            with (folder / "node-1" / "log").open("a") as log:
                log.write("nobody reads this\n")
            assert process.wait(60) == ExitCode.BROKEN_PIPE
            assert process.stderr.read() == b""
        finally:
            process.kill()


def test_a_running_cluster(serving: Run) -> None:
    done = serving("logs", "--json")
    assert done.code == 0
    assert {json.loads(line)["node"] for line in done.out.splitlines()} == {1, 2, 3}
    assert "became leader" in done.out
