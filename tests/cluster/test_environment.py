"""Nodes that are started out of an odd environment: variables, interpreter options, working folders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftactors.cluster.environment import node_environment

PROGRAM = """
import os, sys
sys.path.insert(0, "lib")
import rates
from raftactors import Application, command, query
from raftactors.cluster import LocalCluster

class Till(Application):
    @command
    def rate(self) -> int:
        import late
        print("caf\\u00e9 \\u20ac")
        return rates.RATE + late.RATE

    @query
    def flags(self) -> list:
        return [sys.flags.optimize, sys.flags.dev_mode, sys.flags.inspect, os.getcwd() in sys.path]

if __name__ == "__main__":
    with LocalCluster(1, Till, data_dir=sys.argv[1], start_timeout_ms=60_000) as cluster, cluster.client() as client:
        print(client.call("rate", timeout_ms=60_000), client.query("flags", timeout_ms=60_000))
"""

ODD = {
    "PYTHONOPTIMIZE": "2",
    "PYTHONINSPECT": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONDEVMODE": "1",
    "PYTHONTRACEMALLOC": "20",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONVERBOSE": "1",
    "PYTHONIOENCODING": "ascii",
    "PYTHONMALLOC": "debug",
    "PYTHONINTMAXSTRDIGITS": "640",
    "PYTHONSTARTUP": "/nowhere.py",
    "PYTHONHOME": "/nowhere",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
}


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    """A program with two modules in a folder beside it, one of them on a relative PYTHONPATH only."""
    for folder, module, rate in (("lib", "rates", 2), ("late", "late", 40)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{module}.py").write_text(f"RATE = {rate}")
    (tmp_path / "program.py").write_text(PROGRAM)
    yield tmp_path / "program.py"


def run(program: Path, *options: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # The odd variables are put in place by the program itself: this interpreter would not start with some of them.
    start = f"import os, runpy, sys; sys.argv[1:] = sys.argv[2:]; os.environ.update({variables!r}); "
    if "-E" in options or "-I" in options:
        start += "sys.path.append('late'); "
    start += "runpy.run_path('program.py', run_name='__main__')"
    code = [sys.executable, *options, "-c", start, "program.py", str(program.parent / "data")]
    environment = {**os.environ, "PYTHONPATH": "late:nowhere"}
    return subprocess.run(
        code, cwd=program.parent, env=environment, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], marks=pytest.mark.long, id="no option"),
        pytest.param(["-O"], id="-O"),
        pytest.param(["-I"], marks=pytest.mark.long, id="-I"),
        pytest.param(["-E", "-W", "error"], marks=pytest.mark.long, id="-E -W error"),
    ],
)
def test_a_program_in_an_odd_environment_starts_nodes_all_the_same(program: Path, options: list[str]) -> None:
    # The program itself runs from a file, so that a node can import it.
    done = run(program, *options, variables=ODD)
    log = program.parent / "data" / "node-1" / "log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    assert done.stdout.splitlines() == ["42 [0, False, 0, False]"]
    assert "caf\u00e9 \u20ac" in log.read_text(encoding="utf-8")
    assert "import time:" not in log.read_text(encoding="utf-8")


def test_what_is_meant_for_the_application_is_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHON_VERSION", "my own")
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    for name, value in ODD.items():
        monkeypatch.setenv(name, value)
    environment = node_environment()
    assert environment["PYTHON_VERSION"] == "my own"
    kept = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONSAFEPATH"}
    assert {name for name in ODD if environment.get(name) == ODD[name]} == kept
    assert environment["PATH"] == os.environ["PATH"]


def test_search_paths_and_folders_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"lib::nowhere:{tmp_path}/lib:/")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "cache")
    monkeypatch.setenv("PYTHONHOME", sys.base_prefix)
    environment = node_environment()
    assert environment["PYTHONPATH"] == f"{tmp_path}/lib:{tmp_path}:/"
    assert environment["PYTHONPYCACHEPREFIX"] == f"{tmp_path}/cache"
    assert environment["PYTHONHOME"] == sys.base_prefix
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert node_environment()["PYTHONPATH"] == f"{tmp_path}/lib:/"


def test_where_raftactors_itself_is_found_is_told(tmp_path: Path) -> None:
    package = Path(sys.modules["raftactors"].__file__ or "").parent
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "raftactors").symlink_to(package)
    # Without site-packages nothing but the program's own doing makes it importable.
    program = (
        "import sys; sys.path[:0] = ['lib', *sys.argv[1:]]; sys.meta_path[:] = [finder for finder in sys.meta_path "
        "if 'editable' not in getattr(finder, '__module__', '')]; "
        "from raftactors.cluster.environment import node_environment; print(node_environment()['PYTHONPATH'])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "lib") in done.stdout
