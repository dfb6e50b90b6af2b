from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raftactors.cli import main

NAMING_A_CLUSTER = frozenset({"RAFTACTORS_DATA_DIR", "RAFTACTORS_ADDRESS"})
COMMAND = (sys.executable, "-P", "-m", "raftactors")


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of a plain failure, after checking that it is one."""
        assert self.out == ""
        assert self.err.startswith("raftactors: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        assert "Traceback" not in self.err
        return self.err.removeprefix("raftactors: ").rstrip("\n")


Run = Callable[..., Done]


def run_command(*words: str, cwd: Path, stdin: str = "") -> Done:
    """Run one command in a process of its own, as a user does, without a terminal."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMING_A_CLUSTER}
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=cwd,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def no_width_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs the tests may say how wide its own lines are."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let the commands begin with the usual SIGINT, also if these tests run in the background of a script."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs commands in an empty folder; a cluster in its default data folder is ended afterwards."""

    def call(*words: str, stdin: str = "") -> Done:
        return run_command(*words, cwd=tmp_path, stdin=stdin)

    yield call
    if (tmp_path / ".raftactors" / "cluster.json").exists():
        run_command("down", cwd=tmp_path)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs commands against a key-value cluster of three nodes in the background, one for the whole module."""
    folder = tmp_path_factory.mktemp("serving")

    def call(*words: str, stdin: str = "") -> Done:
        return run_command(*words, cwd=folder, stdin=stdin)

    started = call("up", "--detach", "--set", "tick_ms=20")
    assert started.code == 0, started.err
    yield call
    ended = call("down")
    assert ended.code == 0, ended.err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs commands that start nothing in this process, which is quicker, and in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in NAMING_A_CLUSTER:
        monkeypatch.delenv(name, raising=False)

    def call(*words: str, stdin: str = "") -> Done:
        assert not stdin
        code = main(words)
        return Done(code, *capfd.readouterr())

    return call
