"""The ways to a cluster that runs, and what is said where there is none."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raftactors.cluster.application import ApplicationReference
from raftactors.cluster.folder import ClusterFolder
from raftactors.cluster.manifest import FolderLock, Manifest, load_manifest
from raftactors.cluster.process_record import ProcessRecord
from raftactors.cluster.reaching import operate, stop_cluster
from raftactors.config import Member
from raftactors.errors import ClusterUnreachableError

MEMBERS = (Member(node_id=1, peer_address="h:1", client_address="h:2"),)

SUPERVISOR = """
import os, sys
from dataclasses import replace
from pathlib import Path
from raftactors.cluster.manifest import FolderLock, load_manifest
from raftactors.cluster.process_record import ProcessRecord
folder = Path(sys.argv[1])
lock = FolderLock(folder)
me = ProcessRecord.of(os.getpid(), node_id=0)
if sys.argv[2] == "serves":
    replace(load_manifest(folder), supervisor=me, control_socket=str(folder / "control" / "socket")).save(folder)
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cluster of one node that has served."""
    monkeypatch.setattr("raftactors.cluster.control._REMAKE_WAIT_S", 0.05)
    monkeypatch.setattr("raftactors.cluster.folder._OWN_END_S", 0.05)
    path = tmp_path / "cluster"
    made = ClusterFolder(path, nodes=1, application=ApplicationReference(spec="bank:Bank"))
    dataclasses.replace(made.new_manifest(MEMBERS), has_served=True).save(path)
    made.close(remove=True)
    (path / "node-1").mkdir()
    return path


@contextmanager
def supervisor(folder: Path, state: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the folder, and does not listen."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", SUPERVISOR, str(folder), state], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"holds\n"
            yield process
        finally:
            process.kill()


@contextmanager
def left_node(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process as that of node 1, which the manifest names, and which does not end on its own."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=folder / "node-1") as process:
        try:
            record = ProcessRecord.of(process.pid, node_id=1)
            gone = dataclasses.replace(ProcessRecord.of(os.getpid(), node_id=0), start_ticks=1)
            dataclasses.replace(manifest_of(folder), processes=(record,), supervisor=gone).save(folder)
            yield process
        finally:
            process.kill()


def manifest_of(folder: Path) -> Manifest:
    manifest = load_manifest(folder)
    assert manifest is not None
    return manifest


def ask_status(folder: Path) -> None:
    operate(folder, "status")


def test_a_supervisor_that_cannot_be_reached_is_ended_by_a_signal(folder: Path) -> None:
    with supervisor(folder, "serves") as process:
        with pytest.raises(ClusterUnreachableError, match="`raftactors down` ends it"):
            operate(folder, "status")
        stop_cluster(folder)
        assert process.wait(20) == -signal.SIGTERM
    with pytest.raises(ClusterUnreachableError, match="does not run; start it with `raftactors up"):
        stop_cluster(folder)


def test_a_supervisor_that_is_stopped_is_named_at_once(folder: Path) -> None:
    with supervisor(folder, "serves") as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        for way in (ask_status, stop_cluster):
            with pytest.raises(ClusterUnreachableError, match=f"let it go on with `kill -CONT {process.pid}`"):
                way(folder)


def test_a_process_that_holds_the_folder_without_serving_is_named(folder: Path) -> None:
    with supervisor(folder, "starts") as process:
        for way in (ask_status, stop_cluster):
            with pytest.raises(ClusterUnreachableError, match=f"^process {process.pid} is about to start, stop"):
                way(folder)


def test_nodes_without_a_supervisor_are_named_and_ended(folder: Path) -> None:
    with left_node(folder) as node:
        with pytest.raises(
            ClusterUnreachableError, match=rf"node 1 \(process {node.pid}\) will end soon; `raftactors down"
        ):
            operate(folder, "status")
        stop_cluster(folder)
        assert node.wait(20) == -signal.SIGKILL


def test_a_copy_of_a_folder_reaches_nothing_that_runs_in_the_original(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with supervisor(folder, "serves") as process, left_node(folder) as node:
        running = dataclasses.replace(manifest_of(folder), supervisor=ProcessRecord.of(process.pid, node_id=0))
        running.save(folder)
        shutil.copytree(folder, copy)
        for way in (ask_status, stop_cluster):
            with pytest.raises(ClusterUnreachableError, match="does not run"):
                way(copy)
        ClusterFolder(copy, nodes=1, application=ApplicationReference(spec="bank:Bank")).close(remove=True)
        assert process.poll() is None
        assert node.poll() is None, "a start in the copy ended a node of the original"


def test_the_lock_goes_with_its_holder_also_if_a_copy_of_the_descriptor_lives_on(folder: Path) -> None:
    lock = FolderLock(folder)
    copy = os.dup(lock._descriptor)
    try:
        lock.release()
        FolderLock(folder).release()
    finally:
        os.close(copy)


def test_a_manifest_of_the_format_before_is_read(folder: Path) -> None:
    path = folder / "cluster.json"
    text = path.read_text().replace('"format": 2', '"format": 1')
    text = text.replace('"processes": []', '"processes": [{"node_id": 1, "pid": 1, "created_s": 5.5}]')
    path.write_text(text.replace('"supervisor": null', '"supervisor": {"node_id": 0, "pid": 1, "created_s": 5.5}'))
    manifest = manifest_of(folder)
    assert [record.pid for record in manifest.processes] == [1]
    with pytest.raises(ClusterUnreachableError, match="does not run"):
        stop_cluster(folder)
    ClusterFolder(folder, nodes=1, application=ApplicationReference(spec="bank:Bank")).close(remove=True)
