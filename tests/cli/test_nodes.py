"""`status`, `kill`, `pause`, `resume`, `restart`, `down`."""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest

from raftactors.errors import ExitCode

from .conftest import Run


def node_of(run: Run, node_id: int) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = run("status", "--json").document["nodes"]
    return nodes[node_id - 1]


def test_status_as_text_has_a_line_for_each_node_and_no_colours(serving: Run) -> None:
    done = serving("status")
    title, header, *rows = done.out.splitlines()
    assert title.startswith("raftactors.app.kv:KeyValue in ")
    assert header.split() == ["node", "state", "pid", "role", "term", "commit", "applied", "disk", "cpu", "memory"]
    assert [row.split()[:2] for row in rows] == [["1", "running"], ["2", "running"], ["3", "running"]]
    assert "\x1b" not in done.out


@pytest.mark.long
def test_kill_leaves_a_node_dead_until_restart(serving: Run) -> None:
    pid = node_of(serving, 1)["pid"]
    assert serving("kill", "1").out == "node 1 is killed\n"
    assert not psutil.pid_exists(pid)
    assert node_of(serving, 1)["state"] == "killed"
    assert "node 1: killed on request" in serving("status").out
    assert serving("put", "while", "dead").code == 0
    assert serving("restart", "1", "--json").document == {"node_id": 1, "state": "running"}
    assert node_of(serving, 1)["pid"] not in {0, pid}


def test_pause_and_resume(serving: Run) -> None:
    assert serving("pause", "2").out == "node 2 is paused\n"
    assert psutil.Process(node_of(serving, 2)["pid"]).status() == psutil.STATUS_STOPPED
    assert serving("resume", "2").out == "node 2 is running\n"


@pytest.mark.long
def test_a_dead_node_cannot_be_paused(serving: Run) -> None:
    assert serving("kill", "3").code == 0
    done = serving("pause", "3")
    assert done.code == ExitCode.FAILURE
    assert done.error == "node 3 is killed, so it cannot be paused; restart it first"
    assert serving("restart", "3").code == 0


@pytest.mark.parametrize("operation", ["kill", "pause", "resume", "restart"])
def test_a_node_that_does_not_exist(serving: Run, operation: str) -> None:
    done = serving(operation, "9")
    assert done.code == ExitCode.CONFIG
    assert done.error == "node 9 does not exist; the cluster has [1, 2, 3]"


def test_a_node_that_is_no_number(serving: Run) -> None:
    done = serving("kill", "one")
    assert done.code == ExitCode.USAGE
    assert "Invalid value for 'NODE'" in done.error
    done = serving("kill", "one", "--json")
    assert json.loads(done.err)["error"]["exit_code"] == ExitCode.USAGE


def test_another_up_in_the_same_folder(serving: Run) -> None:
    for detach in ([], ["--detach"]):
        done = serving("up", *detach)
        assert done.code == ExitCode.DATA_LOCKED
        assert "end it with `raftactors down" in done.error
    assert serving("status").code == 0
