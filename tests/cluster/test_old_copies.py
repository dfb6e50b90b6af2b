"""An old copy of a node's data, taken within its present run, does not come to serve in a cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raftactors import LocalCluster
from raftactors.cluster.rebuilding import rebuild_node
from raftactors.config import RaftTiming
from raftactors.errors import DataLostError

FAST = RaftTiming(tick_ms=20)


@pytest.mark.timeout(120)
def test_a_copy_is_refused_until_the_node_is_rebuilt_and_no_write_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    with LocalCluster(3, data_dir=folder, timing=FAST) as cluster, cluster.client(timeout_ms=30_000) as client:
        chosen = cluster.wait_leader(30_000)
        client.kv.put("early", "1")
        cluster.pause(chosen)
        shutil.copytree(folder / f"node-{chosen}", tmp_path / "copy")
        cluster.resume(chosen)
        cluster.wait_leader(30_000)
        cluster.kill(chosen % 3 + 1)
        for number in range(20):
            client.kv.put(f"late-{number}", "1")
        for node_id in (1, 2, 3):
            cluster.kill(node_id)
        shutil.rmtree(folder / f"node-{chosen}")
        shutil.copytree(tmp_path / "copy", folder / f"node-{chosen}")
        with pytest.raises(DataLostError, match=rf"node-{chosen}/data: an old copy: it .*raftactors rebuild"):
            cluster.restart(chosen)
        assert not cluster.nodes[chosen].is_ready
    rebuild_node(folder, chosen)
    # As made by a version that had no witnesses.
    shutil.rmtree(folder / "witness")
    with LocalCluster(3, data_dir=folder, timing=FAST) as cluster, cluster.client(timeout_ms=30_000) as client:
        assert [client.kv.get(f"late-{number}") for number in range(20)] == ["1"] * 20
    assert sorted(path.name for path in (folder / "witness").iterdir()) == ["node-1", "node-2", "node-3"]
