"""What is shown to somebody who does not know the commands, or mistypes one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

import raftactors
from raftactors.cli import main
from raftactors.cli.overview import OTHER
from raftactors.errors import ExitCode

from .conftest import COMMAND, Run

Captured = pytest.CaptureFixture[str]


def test_the_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"raftactors {raftactors.__version__} (Python 3.")
    for words in (["--version", "--json"], ["--json", "--version"]):
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)["version"] == raftactors.__version__


def test_no_command_shows_a_page_that_fits_a_terminal(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([]) == ExitCode.USAGE
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) < 23
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[1] for line in lines if line.startswith("  raftactors ")] == ["up", "put", "status"]
    assert "  break   kill, pause, resume, restart" in lines
    assert shown.err == "raftactors: no command given; see `raftactors --help`\n"


@pytest.mark.parametrize("group", ["wal", "snapshot"])
def test_a_group_alone_shows_its_help(group: str, capsys: Captured) -> None:
    assert main([group]) == ExitCode.USAGE
    shown = capsys.readouterr()
    assert shown.out.startswith(f"Usage: raftactors {group} [OPTIONS] COMMAND [ARGS]...")
    assert shown.err == f"raftactors: no command given; see `raftactors {group} --help`\n"
    assert main([group, "--json"]) == ExitCode.USAGE
    shown = capsys.readouterr()
    assert (shown.out, json.loads(shown.err)["error"]["kind"]) == ("", "UsageError")


def test_every_command_has_a_purpose_and_help_that_is_not_cut(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert f"{OTHER}:" not in page
    assert re.search(r"\w\.\.\.$", page, re.MULTILINE) is None
    names = re.findall(r"^  ([a-z]+)  ", page, re.MULTILINE)
    assert {"up", "down", "status", "logs", "put", "call", "kill", "rebuild", "wal", "snapshot"} <= set(names)
    for words in [[name] for name in names if name != "raftactors"] + [["wal", "dump"], ["snapshot", "restore"]]:
        assert main([*words, "--help"]) == 0
        page = capsys.readouterr().out
        assert page.startswith(f"Usage: raftactors {' '.join(words)} ")
        assert all(len(line) <= 80 for line in page.splitlines())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["stauts"], "there is no command 'stauts'; did you mean `raftactors status`"),
        (["log"], "did you mean `raftactors logs`?"),
        (["start"], "did you mean `raftactors up`?"),
        (["stop"], "did you mean `raftactors down`?"),
        (["repair"], "did you mean `raftactors wal repair`"),
        (["wal", "dmup"], "did you mean `raftactors wal dump`?"),
        (["xyzzy"], "there is no command 'xyzzy'; see `raftactors --help`"),
        (["--verison"], "No such option: --verison; did you mean --version? see `raftactors --help`"),
        (["--data-dir", "x", "status"], "write it after one: `raftactors status --data-dir ...`"),
        (["--query", "call"], "write it after one: `raftactors call --query ...`"),
        (["status", "extra"], "Got unexpected extra argument"),
    ],
)
def test_the_nearest_is_named(words: list[str], text: str, capsys: Captured) -> None:
    assert main(words) == ExitCode.USAGE
    plain = capsys.readouterr()
    assert (plain.out, text in plain.err, plain.err.count("\n")) == ("", True, 1)
    assert main(["--json", *words]) == ExitCode.USAGE
    assert text in json.loads(capsys.readouterr().err)["error"]["text"]


def test_json_may_stand_anywhere(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "snap").mkdir()
    for words in (
        ["--json", "snapshot", "list", str(tmp_path)],
        ["snapshot", "--json", "list", str(tmp_path)],
        ["snapshot", "list", "--json", "--", str(tmp_path)],
    ):
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out) == {"snapshots": []}


@pytest.mark.parametrize(
    ("words", "index", "found"),
    [
        ("raftactors sta", 1, {"status"}),
        ("raftactors snapshot ", 2, {"list", "verify", "save", "restore"}),
        ("raftactors put k --time", 3, {"--timeout-ms"}),
        ("raftactors kill ", 2, {"1", "2", "3"}),
        ("raftactors logs ", 2, {"1", "2", "3"}),
    ],
)
def test_the_shell_completes(serving: Run, words: str, index: int, found: set[str]) -> None:
    folder = Path(str(serving("status", "--json").document["data_dir"])).parent
    environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(index), "_RAFTACTORS_COMPLETE": "complete_bash"}
    done = subprocess.run(COMMAND, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_names_the_command(shell: str, tmp_path: Path) -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    words = [*COMMAND, "--show-completion", shell]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert f"_RAFTACTORS_COMPLETE=complete_{shell}" in done.stdout
    assert "raftactors" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("json_word", [[], ["--json"]])
def test_ctrl_c_has_a_code_of_its_own(serving: Run, json_word: list[str]) -> None:
    folder = Path(str(serving("status", "--json").document["data_dir"])).parent
    with subprocess.Popen(
        [*COMMAND, "put", "key", "-", *json_word],
        cwd=folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        try:
            # More than a pipe holds: this returns when the command reads.
            process.stdin.write("x" * 200_000)
            process.stdin.flush()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == ExitCode.INTERRUPTED
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not json_word or json.loads(err)["error"]["exit_code"] == 130
