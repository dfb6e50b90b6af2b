"""A node's data made anew from the others': the right log is taken, or nothing is done."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from raftactors.cluster.application import refer_to
from raftactors.cluster.local import KEY_VALUE, LocalCluster
from raftactors.cluster.manifest import FolderLock, Manifest
from raftactors.cluster.node_folder import witness_path
from raftactors.cluster.rebuilding import rebuild_node
from raftactors.config import Limits, Member, RaftTiming
from raftactors.core.types import Entry, HardState, Snapshot
from raftactors.errors import (
    ConfigError,
    CorruptWalError,
    DataLockedError,
    DataLostError,
    RaftActorsError,
    StorageError,
)
from raftactors.storage import OpenedStorage, WalBatch, open_data_dir

CLUSTER_ID = 77
APPLICATION = refer_to(KEY_VALUE)
SMALL = Limits(segment_bytes=64 * 1024, snapshot_entries=40, trailing_entries=5)


def data_of(folder: Path, node_id: int) -> Path:
    return folder / f"node-{node_id}" / "data"


def open_node(folder: Path, node_id: int) -> OpenedStorage:
    return open_data_dir(
        data_of(folder, node_id),
        cluster_id=CLUSTER_ID,
        node_id=node_id,
        segment_bytes=16_384,
        witness_path=witness_path(folder, node_id),
    )


def write_log(folder: Path, node_id: int, terms: Sequence[int], hard_state: HardState) -> None:
    """A node whose entries have these terms, from index 1 on."""
    opened = open_node(folder, node_id)
    entries = [Entry(term, index, b"%d of %d" % (index, term)) for index, term in enumerate(terms, start=1)]
    opened.wal.append([WalBatch(hard_state, entries)])
    opened.close()


def damage(path: Path, offset: int = 4_200) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def log_of(folder: Path, node_id: int) -> Path:
    return max((data_of(folder, node_id) / "wal").glob("*.wal"))


MakeCluster = Callable[[int], Path]


@pytest.fixture
def make_cluster(tmp_path: Path) -> MakeCluster:
    def make(nodes: int) -> Path:
        members = tuple(
            Member(node_id=number, peer_address="127.0.0.1:0", client_address="127.0.0.1:0")
            for number in range(1, nodes + 1)
        )
        Manifest(
            cluster_id=CLUSTER_ID,
            application=APPLICATION.spec,
            application_identity=APPLICATION.identity,
            import_paths=APPLICATION.import_paths,
            members=members,
            has_served=True,
        ).save(tmp_path)
        return tmp_path

    return make


def test_the_log_that_an_election_would_prefer_is_taken(make_cluster: MakeCluster) -> None:
    folder = make_cluster(3)
    write_log(folder, 1, [1, 1, 1, 1, 1], HardState(6, 2, 2))
    write_log(folder, 2, [1, 1, 1], HardState(4, 3, 3))
    write_log(folder, 3, [1, 1, 3], HardState(3, 3, 3))
    for _ in range(3):
        open_node(folder, 2).close()
    damage(log_of(folder, 2))
    with pytest.raises(CorruptWalError, match="raftactors rebuild"):
        open_node(folder, 2)
    made = rebuild_node(folder, 2)
    assert made == (2, 3, 6, 3, folder / "node-2" / "data.broken-1")
    opened = open_node(folder, 2)
    source = open_node(folder, 3)
    assert opened.entries == source.entries
    assert opened.hard_state == HardState(6, 0, 3)
    # Raised at the first opening, three more, and the two since; the one that failed changed nothing.
    assert opened.incarnation == 6
    opened.close()
    source.close()
    assert (data_of(folder, 2).stat().st_mode & 0o777) == 0o700
    assert rebuild_node(folder, 2).kept == folder / "node-2" / "data.broken-2"


def test_a_long_log_is_copied_in_parts(make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftactors.cluster.rebuilding._BATCH_BYTES", 1_000)
    folder = make_cluster(3)
    for node_id in (1, 2):
        write_log(folder, node_id, [1] * 100, HardState(1, 1, 100))
    made = rebuild_node(folder, 3)
    assert (made.source_node in {1, 2}, made.last_index, made.kept) == (True, 100, None)
    opened = open_node(folder, 3)
    assert opened.recovery.batches > 5
    assert [entry.index for entry in opened.entries] == [*range(1, 101)]
    opened.close()


@pytest.mark.parametrize(("nodes", "damaged"), [(3, 1), (5, 2), (2, 1), (1, 0)])
def test_too_few_others_are_refused(make_cluster: MakeCluster, nodes: int, damaged: int) -> None:
    folder = make_cluster(nodes)
    for node_id in range(1, nodes + 1):
        write_log(folder, node_id, [1, 1], HardState(1, 1, 2))
    for node_id in range(2, damaged + 2):
        damage(log_of(folder, node_id))
    before = sorted(path for path in folder.rglob("*") if path.name != "cluster.lock")
    with pytest.raises(StorageError, match=rf"others? nodes can be read, of {nodes} members it takes") as refused:
        rebuild_node(folder, 1)
    assert all(f"node {node_id}: " in str(refused.value) for node_id in range(2, damaged + 2))
    assert sorted(path for path in folder.rglob("*") if path.name != "cluster.lock") == before
    if damaged > 1:
        # One fewer is enough.
        shutil.rmtree(data_of(folder, 2))
        witness_path(folder, 2).unlink()
        write_log(folder, 2, [1, 1], HardState(1, 1, 2))
        assert rebuild_node(folder, 1).last_index == 2


def test_a_log_whose_snapshots_are_gone_is_no_source(make_cluster: MakeCluster) -> None:
    folder = make_cluster(3)
    write_log(folder, 1, [1, 1], HardState(1, 1, 2))
    opened = open_node(folder, 3)
    opened.wal.append([WalBatch(HardState(2, 3, 8), [Entry(2, 9, b"")], Snapshot(8, 2))])
    opened.close()
    with pytest.raises(StorageError, match=r"node-3.* no snapshot to begin from .*`raftactors snapshot restore`"):
        rebuild_node(folder, 2)


def test_a_folder_of_another_node_is_no_source(make_cluster: MakeCluster) -> None:
    folder = make_cluster(3)
    write_log(folder, 1, [1, 1], HardState(1, 1, 2))
    shutil.copytree(data_of(folder, 1), data_of(folder, 3))
    with pytest.raises(StorageError, match=r"node 3: .* is that of cluster 77, node 1"):
        rebuild_node(folder, 2)


def test_an_old_copy_is_no_source(make_cluster: MakeCluster) -> None:
    folder = make_cluster(3)
    for node_id in (1, 3):
        write_log(folder, node_id, [1, 1], HardState(1, 1, 2))
    (folder / "node-3" / "config.json").write_text('{"incarnation_min": 2}')
    with pytest.raises(StorageError, match=r"node 3: .* a copy of incarnation 1, the node has had 2"):
        rebuild_node(folder, 2)
    open_node(folder, 3).close()
    assert rebuild_node(folder, 2).last_index == 2


def test_a_copy_from_the_present_run_is_no_source(make_cluster: MakeCluster, tmp_path: Path) -> None:
    folder = make_cluster(3)
    write_log(folder, 1, [1, 1], HardState(1, 1, 2))
    opened = open_node(folder, 3)
    shutil.copytree(data_of(folder, 3), tmp_path / "copy")
    opened.wal.append([WalBatch(HardState(1, 1, 2), [Entry(1, 1, b""), Entry(1, 2, b"")])])
    opened.close()
    data_of(folder, 3).rename(tmp_path / "true")
    (tmp_path / "copy").rename(data_of(folder, 3))
    with pytest.raises(StorageError, match=r"node 3: .*/data: an old copy: it is of term 0, but .* shown term 1"):
        rebuild_node(folder, 2)
    shutil.rmtree(data_of(folder, 3))
    (tmp_path / "true").rename(data_of(folder, 3))
    assert rebuild_node(folder, 2).last_index == 2


def test_the_witness_tells_of_what_was_rebuilt_and_no_more(make_cluster: MakeCluster) -> None:
    folder = make_cluster(3)
    for node_id in (1, 3):
        write_log(folder, node_id, [1, 1], HardState(1, 1, 2))
    write_log(folder, 2, [1, 1, 5, 5], HardState(6, 2, 2))  # It led alone and stood again: nobody heard of it.
    shutil.rmtree(data_of(folder, 2))
    with pytest.raises(DataLostError, match="nothing is here"):
        open_node(folder, 2)
    (folder / "witness" / "node-2.new").write_bytes(b"of a rebuild that did not come to its end")
    assert rebuild_node(folder, 2).last_index == 2
    assert sorted(path.name for path in (folder / "witness").iterdir()) == ["node-1", "node-2", "node-3"]
    shutil.copytree(data_of(folder, 2), folder / "copy")
    opened = open_node(folder, 2)
    opened.wal.append([WalBatch(None, [Entry(2, 3, b"")])])
    opened.close()
    shutil.rmtree(data_of(folder, 2))
    (folder / "copy").rename(data_of(folder, 2))
    with pytest.raises(DataLostError, match=r"an old copy of incarnation 2, but this node has served with .* 3"):
        open_node(folder, 2)


def test_nothing_is_rebuilt_while_something_runs(make_cluster: MakeCluster) -> None:
    folder = make_cluster(3)
    for node_id in (1, 2, 3):
        write_log(folder, node_id, [1, 1], HardState(1, 1, 2))
    running = open_node(folder, 3)
    for node_id in (2, 3):
        with pytest.raises(DataLockedError, match="node-3"):
            rebuild_node(folder, node_id)
    running.close()
    lock = FolderLock(folder)
    with pytest.raises(DataLockedError, match="runs a cluster"):
        rebuild_node(folder, 2)
    lock.release()
    assert rebuild_node(folder, 2).source_node in {1, 3}


def test_what_is_no_node_or_no_cluster_is_refused(make_cluster: MakeCluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no cluster in"):
        rebuild_node(tmp_path, 1)
    with pytest.raises(ConfigError, match="node 4 is not one of the cluster"):
        rebuild_node(make_cluster(3), 4)


def test_a_disk_that_refuses_is_told_of(make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_cluster(3)
    for node_id in (1, 2):
        write_log(folder, node_id, [1], HardState(1, 1, 1))

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(StorageError, match=r"node 3 was not rebuilt: Permission denied"):
            rebuild_node(folder, 3)
    assert (folder / "node-3" / "data.new").exists()
    assert rebuild_node(folder, 3).last_index == 1
    assert [path.name for path in (folder / "node-3").iterdir()] == ["data"]


@pytest.mark.long
def test_a_cluster_goes_on_after_a_rebuild_from_an_older_snapshot(tmp_path: Path) -> None:
    with LocalCluster(3, data_dir=tmp_path, timing=RaftTiming(tick_ms=20), limits=SMALL) as cluster:
        victim = cluster.wait_leader()
        with cluster.client() as client:
            for number in range(150):
                client.kv.put(f"key-{number % 70}", str(number))
    others = [node_id for node_id in (1, 2, 3) if node_id != victim]
    older: dict[int, str] = {}
    for node_id in others:
        kept, newest = sorted((data_of(tmp_path, node_id) / "snap").glob("*.snap"))
        damage(newest, 5_000)
        older[node_id] = kept.name  # Each node takes its own, so they need not end at the same entry.
    damage(log_of(tmp_path, victim))
    with pytest.raises(RaftActorsError, match="raftactors rebuild"), LocalCluster(3, data_dir=tmp_path):
        pass
    made = rebuild_node(tmp_path, victim)
    assert [path.name for path in (data_of(tmp_path, victim) / "snap").iterdir()] == [older[made.source_node]]
    with (
        LocalCluster(3, data_dir=tmp_path, timing=RaftTiming(tick_ms=20), limits=SMALL) as cluster,
        cluster.client() as client,
    ):
        for number in range(80, 150):
            assert client.kv.get(f"key-{number % 70}") == str(number)
        # With another node dead, writes need the one that was rebuilt.
        cluster.kill(others[0])
        client.kv.put("key-0", "after")
        assert client.kv.get("key-0") == "after"


def test_a_node_that_lost_its_folder_does_not_start_before_it_is_rebuilt(tmp_path: Path) -> None:
    with LocalCluster(3, data_dir=tmp_path, timing=RaftTiming(tick_ms=20)) as cluster, cluster.client() as client:
        client.kv.put("a", "1")
        victim = cluster.wait_leader()
        shutil.rmtree(data_of(tmp_path, victim))
        os.kill(cluster.nodes[victim].pid, signal.SIGKILL)
        # The supervisor starts it again once, and then leaves it to a person.
        deadline_s = time.monotonic() + 30
        while "DATA_LOST" not in (reason := cluster.status()["nodes"][victim - 1]["reason"]):
            assert time.monotonic() < deadline_s, reason
        with pytest.raises(DataLostError, match=rf"node-{victim}/data: nothing is here, .*raftactors rebuild"):
            cluster.restart(victim)
        client.kv.put("a", "2")
    with pytest.raises(DataLostError, match="raftactors rebuild"), LocalCluster(3, data_dir=tmp_path):
        pass
    rebuild_node(tmp_path, victim)
    with LocalCluster(3, data_dir=tmp_path, timing=RaftTiming(tick_ms=20)) as cluster, cluster.client() as client:
        assert client.kv.get("a") == "2"


@pytest.mark.long
def test_a_node_with_an_old_copy_does_not_start_before_it_is_rebuilt(tmp_path: Path) -> None:
    folder, copy = tmp_path / "data", tmp_path / "copy"
    for number in range(2):
        with LocalCluster(3, data_dir=folder, timing=RaftTiming(tick_ms=20)) as cluster, cluster.client() as client:
            client.kv.put("a", str(number))
        if number == 0:
            shutil.copytree(data_of(folder, 2), copy)
    shutil.rmtree(data_of(folder, 2))
    shutil.copytree(copy, data_of(folder, 2))
    with pytest.raises(DataLostError, match=r"an old copy of incarnation 1, .* with incarnation 2:"):
        LocalCluster(3, data_dir=folder).start()
    assert rebuild_node(folder, 2).kept == folder / "node-2" / "data.broken-1"
    with LocalCluster(3, data_dir=folder, timing=RaftTiming(tick_ms=20)) as cluster, cluster.client() as client:
        assert client.kv.get("a") == "1"
