"""`raftactors rebuild`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raftactors.cluster.local import LocalCluster
from raftactors.config import RaftTiming
from raftactors.errors import ExitCode
from tests.cli.conftest import Run


@pytest.mark.long
def test_a_lost_and_a_damaged_node_are_rebuilt_once_the_cluster_is_stopped(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    words = ("--data-dir", str(folder))
    assert run("rebuild", "2", *words).code == ExitCode.CONFIG
    with LocalCluster(3, data_dir=folder, timing=RaftTiming(tick_ms=20)) as cluster, cluster.client() as client:
        client.kv.put("a", "1")
        running = run("rebuild", "2", *words)
        assert (running.code, "raftactors down" in running.error) == (ExitCode.DATA_LOCKED, True)
    assert run("rebuild", "4", *words).code == ExitCode.CONFIG

    shutil.rmtree(folder / "node-2" / "data")
    plain = run("rebuild", "2", *words)
    first, last = plain.out.splitlines()
    assert (plain.code, first.startswith("node 2: rebuilt up to index ")) == (0, True)
    assert last == f"start the cluster with `raftactors up --data-dir {folder}`"

    made = run("rebuild", "3", *words, "--json")
    assert made.document["kept"] == str(folder / "node-3" / "data.broken-1")
    assert (made.document["node_id"], made.document["source_node"] in {1, 2}) == (3, True)
    assert run("wal", "verify", str(folder / "node-3" / "data")).code == 0
    with LocalCluster(3, data_dir=folder, timing=RaftTiming(tick_ms=20)) as cluster, cluster.client() as client:
        assert client.kv.get("a") == "1"
        client.kv.put("a", "2")


@pytest.mark.long
def test_a_majority_serves_until_the_damaged_node_is_rebuilt(run: Run, tmp_path: Path) -> None:
    assert run("up", "--detach").code == 0
    assert run("put", "a", "1").code == 0
    assert run("down").code == 0
    identity = tmp_path / ".raftactors" / "node-2" / "data" / "IDENTITY"
    identity.write_bytes(bytes(len(identity.read_bytes())))
    started = run("up", "--detach")
    assert (started.code, started.out.startswith("2 of 3 nodes serve ")) == (0, True)
    assert "node 2: exit code 15 (DATA_CORRUPT)" in started.err
    assert "raftactors rebuild" in started.err
    assert "node 2: exit code 15 (DATA_CORRUPT)" in run("status").out
    assert run("put", "a", "2").code == 0
    assert run("down").code == 0
    assert run("rebuild", "2").code == 0
    again = run("up", "--detach")
    assert (again.code, again.out.startswith("3 nodes serve "), again.err) == (0, True, "")
    assert run("get", "a").out.strip() == "2"
    assert run("down").code == 0


def test_a_minority_does_not_start(run: Run, tmp_path: Path) -> None:
    assert run("up", "--detach").code == 0
    assert run("down").code == 0
    for node_id in (2, 3):
        shutil.rmtree(tmp_path / ".raftactors" / f"node-{node_id}" / "data")
    refused = run("up", "--detach")
    assert (refused.code, "raftactors rebuild" in refused.error) == (ExitCode.DATA_LOST, True)
