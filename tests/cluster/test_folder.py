from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from raftactors.cluster.application import ApplicationReference
from raftactors.cluster.folder import ClusterFolder
from raftactors.cluster.manifest import FILE_NAME, load_manifest, load_running
from raftactors.cluster.process_record import ProcessRecord
from raftactors.config import Member
from raftactors.errors import ClusterUnreachableError, DataLockedError, ForeignDataError, StorageError

BANK = ApplicationReference(spec="bank:Bank")
MEMBERS = tuple(Member(node_id=number, peer_address="h:1", client_address=f"h:{number}") for number in (1, 2, 3))


def serve(path: Path, application: ApplicationReference = BANK) -> int:
    """Let a cluster of three nodes live in the folder once; returns its id."""
    folder = ClusterFolder(path, nodes=3, application=application)
    dataclasses.replace(folder.new_manifest(MEMBERS), has_served=True).save(path)
    folder.close(remove=True)
    return folder.cluster_id


def test_a_new_folder_is_private_and_a_later_start_goes_on_in_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "bank"
    cluster_id = serve(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    folder = ClusterFolder(path, nodes=3, application=ApplicationReference(spec="/elsewhere/bank.py:Bank"))
    assert folder.has_served
    assert folder.cluster_id == cluster_id
    folder.close(remove=True)
    assert path.exists(), "a folder that was given is never removed"


def test_a_temporary_folder_is_removed_only_when_asked() -> None:
    for remove in (False, True):
        folder = ClusterFolder(None, nodes=3, application=BANK)
        folder.close(remove=remove)
        assert folder.path.exists() is not remove
        folder.close(remove=True)


def test_another_application_is_refused(tmp_path: Path) -> None:
    serve(tmp_path)
    with pytest.raises(ForeignDataError, match="belongs to a cluster of bank:Bank, not bank:Other"):
        ClusterFolder(tmp_path, nodes=3, application=ApplicationReference(spec="bank:Other"))


def test_another_number_of_nodes_is_refused(tmp_path: Path) -> None:
    serve(tmp_path)
    with pytest.raises(ForeignDataError, match="a cluster of 3 nodes, not 5"):
        ClusterFolder(tmp_path, nodes=5, application=BANK)


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "node-1").mkdir()
    with pytest.raises(ForeignDataError, match=r"holds other files \(node-1, thesis.txt\) and no cluster"):
        ClusterFolder(tmp_path, nodes=3, application=BANK)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    assert (tmp_path / "node-1").is_dir()


def test_a_first_start_that_never_served_is_started_over(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path, nodes=3, application=BANK)
    folder.new_manifest(MEMBERS).save(tmp_path)
    (folder.node_path(1) / "data").mkdir(parents=True)
    (tmp_path / "witness").mkdir()
    folder.close(remove=True)
    again = ClusterFolder(tmp_path, nodes=1, application=ApplicationReference(spec="other:Other"))
    assert not again.has_served
    assert again.cluster_id != folder.cluster_id
    assert not again.node_path(1).exists()
    assert not (tmp_path / "witness").exists()
    again.close(remove=True)


def test_a_folder_is_held_by_one_process_and_free_when_it_dies(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from raftactors.cluster.manifest import FolderLock; "
        "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DataLockedError, match=f"process {holder.pid} runs a cluster in .*raftactors down"):
            ClusterFolder(tmp_path, nodes=3, application=BANK)
        holder.kill()
        holder.wait(10)
    ClusterFolder(tmp_path, nodes=3, application=BANK).close(remove=True)


def test_nodes_left_by_a_killed_supervisor_are_seen_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftactors.cluster.folder._OWN_END_S", 0.2)
    serve(tmp_path)
    home = tmp_path / "node-1"
    home.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=home) as node:
        manifest = load_manifest(tmp_path)
        assert manifest is not None
        stranger = dataclasses.replace(ProcessRecord.of(os.getpid(), node_id=2), start_ticks=1)
        records = (ProcessRecord.of(node.pid, node_id=1), stranger)
        dataclasses.replace(manifest, processes=records).save(tmp_path)
        ClusterFolder(tmp_path, nodes=3, application=BANK).close(remove=True)
        # Its input is open, so it cannot have ended by itself; this process, a stranger under a reused pid, lives.
        assert node.poll() is not None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9}', '{"format": 1}', "null", "\xff"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(ForeignDataError, match="choose another data folder"):
        load_manifest(tmp_path)


def test_a_manifest_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps("x" * 2_000_000))
    with pytest.raises(ForeignDataError, match="too large"):
        load_manifest(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file; choose a folder"):
        ClusterFolder(tmp_path / "file", nodes=3, application=BANK)


def test_a_cluster_that_does_not_run_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnreachableError, match=r"no cluster in .*raftactors up"):
        load_running(tmp_path)
    serve(tmp_path)
    with pytest.raises(ClusterUnreachableError, match="does not run; start it with"):
        load_running(tmp_path)
    manifest = load_manifest(tmp_path)
    assert manifest is not None
    dead = dataclasses.replace(ProcessRecord.of(os.getpid(), node_id=0), start_ticks=1)
    dataclasses.replace(manifest, supervisor=dead).save(tmp_path)
    with pytest.raises(ClusterUnreachableError, match="does not run"):
        load_running(tmp_path)
