"""Which words of a command line are values and which are options."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftactors.cli import main
from raftactors.errors import ExitCode

from .conftest import Run

COUNT = ("call", "--query", "count")


@pytest.mark.parametrize(
    "words",
    [
        ["n", "-1"],
        ["n", "-1", "--timeout-ms", "5000"],
        ["--timeout-ms", "5000", "n", "-1"],
        ["n", "--timeout-ms=5000", "-1"],
        ["--", "n", "-1"],
        ["n", "--", "-1"],
        ["--timeout-ms", "5000", "--", "n", "-1"],
    ],
)
def test_a_negative_number_is_a_value(serving: Run, words: list[str]) -> None:
    assert serving("put", *words).code == 0
    assert serving("get", "n").out == "-1\n"
    assert serving("delete", "n").out == "true\n"


@pytest.mark.parametrize("value", ["-x", "--colour", "--colour=red", "-.5", "-1e5", "-", "--timeout-sm"])
def test_a_word_that_is_no_option_is_a_value_after_the_key(serving: Run, value: str) -> None:
    assert serving("put", "word", value, stdin="-").code == 0
    assert serving("get", "word").out == f"{value}\n"


def test_negative_keys_and_options_as_values(serving: Run) -> None:
    assert serving("put", "-5", "five").code == 0
    assert serving("get", "-5", "--json").document == {"result": "five"}
    assert serving("put", "--", "--json", "--json").code == 0
    assert serving("get", "--", "--json").out == "--json\n"
    assert serving("call", "put", "k", "-5").error.endswith("not int")
    assert serving("call", "put", "k", '"-5"').code == 0
    assert serving("call", "get", "k", "--query").out == "-5\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["call", "--querry", "count"], "No such option: --querry; did you mean --query? see `raftactors call --help`"),
        (["get", "--jsno"], "No such option: --jsno; did you mean --json?"),
        (["get", "k", "--timeout-sm", "5"], "No such option: --timeout-sm; did you mean --timeout-ms?"),
        (["put", "k", "v", "--data-dri", "x"], "No such option: --data-dri; did you mean --data-dir?"),
        (["put", "k", "v", "w"], "Got unexpected extra argument"),
        (["put", "k"], "Missing argument 'VALUE'"),
        (["put", "k", "v", "--timeout-ms"], "Option '--timeout-ms' requires an argument"),
        (["get", "k", "--timeout-ms", "0"], "Invalid value for '--timeout-ms'"),
        (["get", "k", "--timeout-ms", "-5"], "Invalid value for '--timeout-ms'"),
        (["get", "k", "--timeout-ms", "9" * 30], "Invalid value for '--timeout-ms'"),
    ],
)
def test_what_is_no_command_line(
    words: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == ExitCode.USAGE
    assert text in capsys.readouterr().err
