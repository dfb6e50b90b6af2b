"""`put`, `get`, `delete`, `call`: results, and each way in which they fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raftactors.cli import main
from raftactors.cluster.manifest import load_manifest
from raftactors.config import Limits
from raftactors.errors import ExitCode

from .conftest import Run


def test_put_get_delete(serving: Run) -> None:
    assert serving("put", "colour", "blue").out.strip().isdigit()
    assert serving("get", "colour").out == "blue\n"
    assert serving("get", "colour", "--json").document == {"result": "blue"}
    assert serving("delete", "colour").out == "true\n"
    assert serving("delete", "colour", "--json").document == {"result": False}


def test_a_value_from_standard_input(serving: Run) -> None:
    assert serving("put", "long", "-", stdin="two\nlines").code == 0
    assert serving("get", "long", "--json").document == {"result": "two\nlines"}


def test_call_reads_arguments_as_json_where_they_are_json(serving: Run) -> None:
    assert serving("call", "compare_and_swap", "fresh", "null", "first").out == "true\n"
    assert serving("call", "compare_and_swap", "fresh", "first", '"5"', "--json").document == {"result": True}
    assert serving("call", "--query", "scan", "fresh", "10").out == '[["fresh", "5"]]\n'
    assert serving("--json", "call", "--query", "count", "fresh").document == {"result": 1}
    assert serving("call", "put", "infinite", "Infinity").code == 0
    assert serving("get", "infinite").out == "Infinity\n"


def test_a_missing_key(serving: Run) -> None:
    done = serving("get", "nowhere")
    assert done.code == ExitCode.FAILURE
    assert done.error.startswith("there is no key 'nowhere'")
    done = serving("get", "nowhere", "--json")
    assert (done.code, done.document) == (ExitCode.FAILURE, {"result": None})
    assert json.loads(done.err)["error"]["exit_code"] == ExitCode.FAILURE


def test_an_unknown_method(serving: Run) -> None:
    done = serving("call", "explode")
    assert done.code == ExitCode.COMMAND_REJECTED
    assert done.error.startswith("KeyValue has no command 'explode'; it has compare_and_swap, delete, put")


def test_a_query_that_is_called_as_a_command(serving: Run) -> None:
    done = serving("call", "count")
    assert done.code == ExitCode.COMMAND_REJECTED
    assert "count" in done.error


def test_arguments_of_the_wrong_type(serving: Run) -> None:
    done = serving("call", "put", "key", "-5")
    assert done.code == ExitCode.COMMAND_REJECTED
    assert "value" in done.error
    assert "int" in done.error


def test_what_the_application_raises(serving: Run) -> None:
    done = serving("call", "--query", "scan", "", "0")
    assert done.code == ExitCode.FAILURE
    assert done.error == "ValueError: limit is 0; it must be 1 to 1000"


def test_an_oversize_command(serving: Run) -> None:
    done = serving("put", "large", "-", stdin="x" * (Limits().command_bytes_max + 1))
    assert done.code == ExitCode.COMMAND_REJECTED
    assert "command_bytes_max" in done.error


def test_standard_input_that_is_no_text(
    serving: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "noise").write_bytes(b"\xff\xfe")
    with (tmp_path / "noise").open() as noise:
        monkeypatch.setattr("sys.stdin", noise)
        assert main(["put", "key", "-", "--data-dir", str(tmp_path)]) == ExitCode.CONFIG
    assert capsys.readouterr().err.startswith("raftactors: standard input is not UTF-8")


def test_the_error_is_json_on_demand(serving: Run) -> None:
    done = serving("call", "explode", "--json")
    assert done.code == ExitCode.COMMAND_REJECTED
    error = json.loads(done.err)["error"]
    assert error["kind"] == "UnknownMethodError"
    assert error["exit_code"] == 31
    assert "has no command 'explode'" in error["text"]


@pytest.mark.parametrize("words", [["get", "key"], ["status"], ["kill", "1"], ["down"], ["call", "put", "a", "b"]])
def test_no_cluster_there(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert done.code == ExitCode.CLUSTER_UNREACHABLE
    assert done.error.startswith("no cluster in .raftactors; start one with `raftactors up --data-dir .raftactors`")


@pytest.mark.long
def test_nodes_that_do_not_answer(serving: Run, tmp_path: Path) -> None:
    """All nodes paused: the supervisor is there, the cluster is not."""
    folder = Path(serving("status", "--json").document["data_dir"])
    manifest = load_manifest(folder)
    assert manifest is not None
    try:
        for node_id in manifest.client_addresses:
            assert serving("pause", str(node_id)).code == 0
        done = serving("put", "key", "value", "--timeout-ms", "300")
        assert done.code in {ExitCode.CLUSTER_UNREACHABLE, ExitCode.COMMAND_UNKNOWN_OUTCOME}
        assert done.error
        done = serving("get", "key", "--timeout-ms", "300")
        assert done.code == ExitCode.CLUSTER_UNREACHABLE
        assert done.error
    finally:
        for node_id in manifest.client_addresses:
            assert serving("resume", str(node_id)).code == 0
    assert serving("put", "key", "again").code == 0
