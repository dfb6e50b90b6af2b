"""`--address` and RAFTACTORS_ADDRESS on the commands that talk to nodes, and what counts beside `--data-dir`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from raftactors.errors import ExitCode
from tests.client.fake_node import FakeNode

from .conftest import Run


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode(node_id=1) as node:
        yield node


def test_every_command_that_talks_to_nodes(here: Run, node: FakeNode) -> None:
    assert here("put", "a", "b", "--address", node.address).out == "1\n"
    assert here("get", "a", "--address", node.address).out == "b\n"
    assert here("call", "--query", "count", "", "--address", node.address).out == "1\n"
    assert here("delete", "a", "--address", node.address).out == "true\n"


def test_status_tells_what_nodes_can_tell(here: Run, node: FakeNode) -> None:
    done = here("status", "--address", node.address, "--json")
    assert done.code == 0, done.err
    (row,) = done.document["nodes"]
    assert (row["node_id"], row["state"], row["client_address"]) == (1, "running", node.address)
    assert (row["pid"], row["cpu_percent"], row["rss_bytes"]) == (None, None, None)
    assert done.document["cluster_id"] == node.cluster_id
    assert done.document["leader_id"] == 1


def test_status_names_a_node_that_is_silent(here: Run, node: FakeNode) -> None:
    node.members.append((2, "127.0.0.1:1"))
    done = here("status", "--address", node.address, "--json")
    states = {row["node_id"]: row["state"] for row in done.document["nodes"]}
    assert states == {1: "running", 2: "silent"}


def test_several_addresses_and_the_environment(here: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    assert here("put", "a", "1", "--address", "127.0.0.1:1", "--address", node.address).code == 0
    monkeypatch.setenv("RAFTACTORS_ADDRESS", f"127.0.0.1:1,{node.address}")
    assert here("get", "a").out == "1\n"
    monkeypatch.setenv("RAFTACTORS_DATA_DIR", "elsewhere")
    assert here("get", "a").out == "1\n", "of two environment variables the address counts"
    done = here("get", "a", "--data-dir", "elsewhere")
    assert done.code == ExitCode.CLUSTER_UNREACHABLE, "a flag counts more than a variable"
    assert done.error.startswith("no cluster in elsewhere")
    assert done.error.endswith("; a cluster elsewhere is named by --address HOST:PORT")
    monkeypatch.setenv("RAFTACTORS_ADDRESS", "127.0.0.1:1")
    assert here("get", "a", "--address", node.address).out == "1\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--address", "h:1", "--data-dir", "x"], "--address and --data-dir may name two clusters; give one"),
        (["--address", "h"], "--address is 'h'; write it as HOST:PORT"),
        (["--address", "h:1,h:x"], "--address is 'h:x'; write it as HOST:PORT"),
        (["--address", ","], "--address is empty"),
    ],
)
@pytest.mark.parametrize("command", [["get", "a"], ["status"], ["snapshot", "save"]], ids=lambda words: words[-1])
def test_refused(here: Run, command: list[str], words: list[str], reason: str) -> None:
    done = here(*command, *words, "--json")
    assert done.code == ExitCode.CONFIG
    assert reason in json.loads(done.err)["error"]["text"]


def test_a_snapshot_is_not_copied_from_another_host(here: Run, node: FakeNode) -> None:
    done = here("snapshot", "save", "--address", node.address, "--to", "copy")
    assert done.code == ExitCode.CONFIG
    assert "copy it on that host" in done.error


def test_nobody_answers(here: Run) -> None:
    done = here("put", "a", "b", "--address", "127.0.0.1:1", "--timeout-ms", "100")
    assert done.code == ExitCode.CLUSTER_UNREACHABLE
    assert "127.0.0.1:1" in done.error
