"""A program whose working folder was deleted under it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raftactors.cluster.application import refer_to
from raftactors.cluster.folder import ClusterFolder
from raftactors.cluster.working_folder import absolute, current_folder, search_here
from raftactors.errors import ConfigError

GONE = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
PROGRAM = GONE + (
    "from raftactors.cluster import LocalCluster; from raftactors.client import Client\n"
    "with LocalCluster(1, data_dir=None if sys.argv[1] == '-' else sys.argv[1], start_timeout_ms=60_000) as cluster:\n"
    "    with Client(list(cluster.addresses.values()), timeout_ms=60_000) as client:\n"
    "        print(client.call('put', 'k', 'v'))\n"
    "    cluster.kill(1); cluster.restart(1)\n"
)
COMMANDS = GONE + (
    "from raftactors.cli import main\n"
    "lines = [line.split() for line in sys.argv[1].splitlines()]\n"
    "for words in lines: print('exit', main(words), flush=True)\n"
)
A_LINE = "raftactors: the working folder has been deleted, so the relative path"


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", program, *arguments]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=110, check=False)


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()


@pytest.mark.usefixtures("gone")
def test_only_relative_paths_need_the_working_folder(tmp_path: Path) -> None:
    assert current_folder() is None
    assert search_here() == ()
    assert absolute(tmp_path) == tmp_path
    for use in (lambda: absolute("data"), lambda: refer_to("bank.py:Bank")):
        with pytest.raises(ConfigError, match=r"the relative path .* leads nowhere; change to a folder that exists"):
            use()
    with pytest.raises(ConfigError, match="the relative path data leads nowhere"):
        ClusterFolder(Path("data"), nodes=1, application=refer_to("bank:Bank"))


@pytest.mark.parametrize("data_dir", [pytest.param("data", marks=pytest.mark.long), "-"])
def test_a_cluster_starts_and_serves_in_a_deleted_working_folder(tmp_path: Path, data_dir: str) -> None:
    done = run(tmp_path, PROGRAM, data_dir if data_dir == "-" else str(tmp_path / data_dir))
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.long
def test_commands_run_with_absolute_paths_and_say_in_one_line_where_they_cannot(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    lines = [f"up --detach --nodes 1 --data-dir {folder}", f"put k v --data-dir {folder}", f"down --data-dir {folder}"]
    lines += [f"replay {folder}/node-1/data --query get k"]
    lines += ["status", "up", "wal verify data", "put k v --data-dir data"]
    done = run(tmp_path, COMMANDS, "\n".join(lines))
    codes = [line for line in done.stdout.splitlines() if line.startswith("exit")]
    assert codes[:4] == ["exit 0"] * 4, done.stderr
    assert all(code not in {"exit 0", "exit 1"} for code in codes[4:6]), done.stderr
    assert "v" in done.stdout.splitlines()
    errors = done.stderr.splitlines()
    assert len(errors) == 4, done.stderr
    for error in (errors[0], errors[1], errors[3]):
        assert error.startswith(A_LINE)
