"""Nothing of a cluster is for other users to read, whatever the umask of whoever starts it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftactors.cluster.private_files import create_file, make_folders, open_log, replace_text
from raftactors.storage import RealFiles
from raftactors.storage.files import ensure_directory

PROGRAM = """
import os, sys
os.umask(0)
from pathlib import Path
from raftactors.cli import main
from raftactors.cluster import LocalCluster

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with LocalCluster(1, sys.argv[2], data_dir=folder, start_timeout_ms=60_000) as cluster:
        with cluster.client(timeout_ms=60_000) as client:
            print(client.call("deposit", "ann", 7))
            client.status()
            client.admin("snapshot", node=1)
        cluster.kill(1)
        cluster.restart(1)
        main(["snapshot", "save", "--data-dir", str(folder), "--to", str(folder / "copy.raft")])
    with open(folder / "node-1" / "log", "ab") as log:
        log.truncate(9 * 2**20)
    assert main(["up", "--detach", "--data-dir", str(folder)]) == 0
    assert main(["down", "--data-dir", str(folder)]) == 0
    restored = folder / "restored" / "here"
    words = ["snapshot", "restore", str(folder / "copy.raft"), str(restored), "--nodes", "1", "--app", sys.argv[2]]
    assert main(words) == 0
"""


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder.parent)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


@pytest.fixture(params=[0, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_every_way_to_make_a_file_or_folder_gives_the_same_modes(tmp_path: Path) -> None:
    make_folders(tmp_path / "a" / "b")
    make_folders(tmp_path / "a")
    ensure_directory(RealFiles(), tmp_path / "c" / "d")
    RealFiles().close(RealFiles().open(tmp_path / "c" / "file", create=True))
    for number, make in enumerate((open_log, create_file)):
        make(tmp_path / "a" / f"file{number}").close()
    replace_text(tmp_path / "a" / "text.json", "{}")
    replace_text(tmp_path / "a" / "text.json", "{1}", sync=True)
    assert (tmp_path / "a" / "text.json").read_text() == "{1}"
    for name, mode in modes(tmp_path).items():
        assert mode == (0o600 if (tmp_path.parent / name).is_file() else 0o700), name


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\n")
    (tmp_path / "log").chmod(0o644)
    with open_log(tmp_path / "log") as log:
        log.write(b"new\n")
    assert (tmp_path / "log").read_text() == "old\nnew\n"
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_what_has_the_name_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folders(tmp_path / "file")
    with pytest.raises(FileExistsError):
        make_folders(tmp_path / "file" / "in it")


@pytest.mark.long
def test_nothing_in_a_used_folder_is_for_others(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "cluster"
    bank = Path(__file__).parents[2] / "examples" / "sqlite_bank.py"
    words = [sys.executable, "-c", PROGRAM, str(folder), f"{bank}:SqliteBank"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    found = modes(tmp_path / "made")
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    for name in ("cluster.json", "cluster.lock", "supervisor.log", "node-1/config.json", "node-1/log", "node-1/log.1"):
        assert found[f"made/cluster/{name}"] == 0o600, name
    for name in ("IDENTITY", "LOCK", "app/bank.sqlite3"):
        assert found[f"made/cluster/node-1/data/{name}"] == 0o600, name
    assert "made/cluster/copy.raft" in found and "made/cluster/restored/here/cluster.json" in found
