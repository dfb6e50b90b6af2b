"""`raftactors node init` and `node run`, and what most members do not agree with."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from raftactors.cluster.supervisor import _INCURABLE
from raftactors.config import hash_seed
from raftactors.config_file import load
from raftactors.errors import ExitCode

from .by_hand import HandRun, end_of, environment, ready_line
from .conftest import Run


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandRun]:
    """Three nodes by hand that have elected a leader, for the whole module."""
    with HandRun(tmp_path_factory.mktemp("by hand")) as cluster:
        assert cluster.init().code == 0
        processes = [cluster.start(f"node-{node_id}.toml", RAFTACTORS_NODE_DRAIN_MS="1000") for node_id in (1, 2, 3)]
        for node_id, process in enumerate(processes, 1):
            assert json.loads(ready_line(process))["node_id"] == node_id
        assert cluster.put("first", "1", cluster.client_addresses[1]).code == 0
        yield cluster
        for process in processes:
            process.terminate()
        for process in processes:
            done = end_of(process)
            assert done.code == 0, done.err


def test_init_writes_all_files_and_never_over_one(here: Run, tmp_path: Path) -> None:
    members = [word for number in (1, 2, 3) for word in ("--member", f"{number}=127.0.0.{number}")]
    done = here("node", "init", "three", *members, "--app", "bank:Bank", "--json")
    assert done.code == 0, done.err
    assert done.document["files"] == [f"three/node-{number}.toml" for number in (1, 2, 3)]
    paths = [tmp_path / file for file in done.document["files"]]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert sorted(path.name for path in (tmp_path / "three").iterdir()) == sorted(path.name for path in paths)
    configs = [load(path).config for path in paths]
    assert [config.node_id for config in configs] == [1, 2, 3]
    assert {config.cluster_id for config in configs} == {done.document["cluster_id"]}
    assert [config.data_dir for config in configs] == [tmp_path / "three" / f"node-{number}" for number in (1, 2, 3)]
    assert configs[1].witness_path == str(tmp_path / "three" / "witness" / "node-2")
    assert {config.application for config in configs} == {"bank:Bank"}
    assert {config.import_paths for config in configs} == {(str(tmp_path / "three"),)}

    paths[1].unlink()
    refused = here("node", "init", "three", *members)
    assert refused.code == ExitCode.CONFIG
    assert refused.error.startswith("three/node-1.toml, three/node-3.toml exists; choose another folder, or --force")
    assert not paths[1].exists()
    one = here("node", "init", "three", *members, "--node-id", "2", "--cluster-id", "5", "--data-dir", "/var/x")
    assert one.code == 0
    assert load(paths[1]).config.cluster_id == 5
    assert load(paths[1]).config.data_dir == Path("/var/x/node-2")
    assert load(paths[1]).config.witness_path == "/var/x/witness/node-2"
    assert here("node", "init", "three", *members, "--force", "--cluster-id", "5").code == 0
    assert load(paths[0]).config.cluster_id == 5
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--member", "1"], "member '1' has no id"),
        (["--member", "1=a", "--member", "1=b"], "member 1 is there twice"),
        (["--member", "1=a", "--node-id", "2"], "node 2 is not among the members; add it with --member 2=HOST"),
        (["--member", "1=a", "--cluster-id", "0"], "cluster_id is 0"),
        (["--member", "1=a", "--app", "bank"], "application is 'bank'; write it as MODULE:CLASS"),
    ],
)
def test_init_refuses(here: Run, tmp_path: Path, words: list[str], reason: str) -> None:
    done = here("node", "init", *words)
    assert done.code == ExitCode.CONFIG
    assert reason in done.error
    assert list(tmp_path.iterdir()) == []


def test_print_config(here: Run) -> None:
    assert here("node", "init", "--member", "1=127.0.0.1").code == 0
    words = ("node", "run", "node-1.toml", "--print-config", "--set", "tick_ms=20", "--listen", "0.0.0.0")
    done = here(*words)
    assert done.code == 0, done.err
    assert "tick_ms = 20  # --set tick_ms=20\n" in done.out
    assert 'listen_client_address = "0.0.0.0:7401"  # --listen 0.0.0.0\n' in done.out
    assert "node_id = 1  # node-1.toml, line 6\n" in done.out
    assert here(*words, "--json").document["timing"]["tick_ms"] == 20
    refused = here(*words, "--set", "tik_ms=20")
    assert refused.code == ExitCode.CONFIG
    assert refused.error.startswith("--set tik_ms=20: there is no key 'tik_ms'; did you mean 'tick_ms'?")


def test_a_node_runs_in_the_foreground(cluster: HandRun) -> None:
    """One of its own: ready line, notification, hash seed, log on standard error, drain on SIGTERM."""
    with (
        HandRun(cluster.folder / "alone", hosts=("127.0.0.1",)) as alone,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door,
    ):
        alone.folder.mkdir()
        assert alone.init().code == 0
        door.bind(str(alone.folder / "notify"))
        door.settimeout(60)
        process = alone.start("node-1.toml", "--log-level", "DEBUG", NOTIFY_SOCKET=str(alone.folder / "notify"))
        assert door.recv(100) == b"READY=1"
        assert json.loads(ready_line(process))["pid"] == process.pid
        seed = hash_seed(load(alone.folder / "node-1.toml").config.cluster_id)
        assert psutil.Process(process.pid).environ()["PYTHONHASHSEED"] == seed
        assert alone.put("a", "b", alone.client_addresses[1]).code == 0
        process.send_signal(signal.SIGTERM)
        done = end_of(process)
        assert (done.code, done.out) == (0, "")
        assert "node=1 raftactors.raft node 1 became leader" in done.err
        quiet = alone.start("node-1.toml", "--no-ready-line", NOTIFY_SOCKET=str(alone.folder / "notify"))
        assert door.recv(100) == b"READY=1"
        quiet.send_signal(signal.SIGINT)
        assert end_of(quiet).out == ""


def test_a_wrong_file_ends_with_its_code(here: Run) -> None:
    done = here("node", "run", "node-1.toml")
    assert done.code == ExitCode.CONFIG
    assert done.error.startswith("node-1.toml cannot be read: No such file or directory; `raftactors node init` writes")


def test_a_stranger_is_told_that_it_is_none(cluster: HandRun) -> None:
    with HandRun(cluster.folder / "four", hosts=("127.0.0.1",)) as stranger:
        stranger.folder.mkdir()
        members = {**cluster.members, 4: stranger.members[1].replace("1=", "4=", 1)}
        cluster_id = load(cluster.folder / "node-1.toml").config.cluster_id
        assert stranger.init("--cluster-id", str(cluster_id), members=members).code == 0
        done = end_of(stranger.start("node-4.toml"))
        assert done.code == ExitCode.NOT_A_MEMBER
        assert done.error.startswith("node 4 is not a member of this cluster: node 1 has the members 1, 2, 3, without")
        done = end_of(stranger.start("node-3.toml"))
        assert done.code == ExitCode.CONFIG_DISAGREES
        assert "node 1 has the members 1, 2, 3, not 1, 2, 3, 4" in done.error
        assert not (stranger.folder / "node-3").exists(), "it must not make data before it is known to belong"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("cluster_id=5", "not in 5"), ("application=json:Bank", "runs raftactors.app.kv:KeyValue, not json:Bank")],
)
def test_another_configuration_ends_the_node(cluster: HandRun, setting: str, reason: str) -> None:
    done = cluster.command("node", "run", "node-3.toml", "--set", setting)
    assert done.code == ExitCode.CONFIG_DISAGREES
    assert reason in done.error


def test_a_node_that_a_supervisor_starts_asks_as_well(cluster: HandRun) -> None:
    config = load(
        cluster.folder / "node-3.toml", flags=[("cluster_id", "5", ""), ("ask_members_ms", "5000", "")]
    ).config
    (cluster.folder / "config.json").write_text(config.to_json())
    done = subprocess.run(
        [sys.executable, "-P", "-m", "raftactors.node", "config.json"],
        cwd=cluster.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == ExitCode.CONFIG_DISAGREES
    assert "not in 5" in done.stderr


def test_another_address_ends_the_node(cluster: HandRun) -> None:
    members = " ".join([cluster.members[1], "2=127.0.0.9:9", cluster.members[3]])
    done = cluster.command("node", "run", "node-2.toml", RAFTACTORS_NODE_MEMBERS=members)
    assert done.code == ExitCode.CONFIG_DISAGREES
    assert f"has node 2 at {cluster.client_addresses[2]} for clients, not at 127.0.0.9:10" in done.error


@pytest.mark.long
def test_one_that_was_started_first_learns_it_later(tmp_path: Path) -> None:
    """And one member that is wrong ends no other: the other two serve all the time."""
    with HandRun(tmp_path) as cluster:
        assert cluster.init().code == 0
        wrong = cluster.start("node-3.toml", "--set", "cluster_id=5", "--data-dir", "wrong", "--set", "witness_path=")
        assert ready_line(wrong)
        right = [cluster.start(f"node-{node_id}.toml") for node_id in (1, 2)]
        for process in right:
            assert ready_line(process)
        assert cluster.put("key", "value", cluster.client_addresses[2]).code == 0
        done = end_of(wrong)
        assert done.code == ExitCode.CONFIG_DISAGREES
        assert "node 3 disagrees with the cluster's: node 1 is in cluster" in done.err.splitlines()[-1]
        assert all(process.poll() is None for process in right)
        assert ready_line(cluster.start("node-3.toml"))
        assert cluster.command("get", "key", "--address", cluster.client_addresses[3]).out == "value\n"


def test_the_unit_leaves_dead_what_a_supervisor_would() -> None:
    unit = (Path(__file__).resolve().parents[2] / "deploy" / "raftactors-node@.service").read_text()
    (codes,) = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("RestartPreventExitStatus=")]
    assert {int(code) for code in codes.split()} == {int(code) for code in _INCURABLE}
