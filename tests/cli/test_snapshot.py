"""`raftactors snapshot`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raftactors.cluster.local import LocalCluster
from raftactors.config import RaftTiming
from raftactors.errors import ExitCode
from tests.cli.conftest import Run

QUICK = RaftTiming(tick_ms=20)


@pytest.mark.long
def test_save_list_verify_and_restore_into_a_new_cluster(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    copy, new = tmp_path / "backup.snap", tmp_path / "new"
    with LocalCluster(1, data_dir=folder, timing=QUICK) as cluster, cluster.client() as client:
        old_id = cluster.cluster_id
        for number in range(50):
            client.kv.put(f"k{number}", str(number))
        saved = run("snapshot", "save", "--data-dir", str(folder), "--to", str(copy), "--json")
        assert saved.code == 0, saved.err
        assert saved.document["file"] == str(copy)
        plain = run("snapshot", "save", "--data-dir", str(folder))
        assert plain.code == 0, plain.err
        assert f"index {saved.document['index']}" in plain.out
        client.kv.put("later", "not in the snapshot")
        assert "exists" in run("snapshot", "save", "--data-dir", str(folder), "--to", str(copy)).error
        refused = run("snapshot", "save", "--data-dir", str(folder), "--node", "7")
        assert (refused.code, "node 7" in refused.error) == (ExitCode.CONFIG, True)
    data = folder / "node-1" / "data"
    listed = run("snapshot", "list", str(data), "--json").document["snapshots"]
    assert [(row["index"], row["members"], row["cluster"]) for row in listed] == [
        (saved.document["index"], [1], old_id)
    ]
    header, row = run("snapshot", "list", str(data)).out.splitlines()
    assert header.split() == ["file", "term", "index", "bytes", "chunks", "cluster", "members"]
    assert str(saved.document["index"]) in row.split()
    good = run("snapshot", "verify", str(copy))
    assert (good.code, good.out.startswith("good: ")) == (0, True)

    alone = tmp_path / "alone.snap"
    alone.write_bytes(copy.read_bytes())
    assert "name it: --app MODULE:CLASS" in run("snapshot", "restore", str(alone), str(new)).error
    other = run("snapshot", "restore", str(copy), str(new), "--app", "bank:Bank")
    assert (other.code, "leave --app out" in other.error) == (ExitCode.APPLICATION_MISMATCH, True)
    assert not new.exists()
    made = run("snapshot", "restore", str(copy), str(new), "--nodes", "3", "--json")
    assert made.code == 0, made.err
    assert made.document["cluster_id"] != old_id
    assert made.document["application"] == "raftactors.app.kv:KeyValue"
    with LocalCluster(3, data_dir=new, timing=QUICK) as cluster, cluster.client() as client:
        assert cluster.cluster_id == made.document["cluster_id"]
        assert client.query("count") == 50
        assert client.kv.get("k49") == "49"
        client.kv.put("goes", "on")
        digests = {
            json.dumps(client.admin("state_digest", node=node)["state_digest"])
            for node in (1, 2, 3)
            if client.admin("status", node=node)["applied"] >= made.document["index"]
        }
        assert digests
    assert "is not empty" in run("snapshot", "restore", str(copy), str(new)).error


def test_damage_and_strangers_have_codes_of_their_own(run: Run, tmp_path: Path) -> None:
    absent = run("snapshot", "verify", str(tmp_path / "nowhere"))
    assert (absent.code, "cannot be read" in absent.error) == (ExitCode.DATA_UNREADABLE, True)
    damaged = tmp_path / "x.snap"
    damaged.write_bytes(b"no snapshot" * 1_000)
    found = run("snapshot", "verify", str(damaged))
    assert (found.code, str(damaged) in found.error) == (ExitCode.DATA_CORRUPT, True)
    assert run("snapshot", "restore", str(damaged), str(tmp_path / "new")).code == ExitCode.DATA_CORRUPT
    assert not (tmp_path / "new").exists()
    assert run("snapshot", "list", str(tmp_path)).out.splitlines() == [
        "file  term  index  bytes  chunks  cluster  members"
    ]
