"""LocalCluster with real node processes."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from raftactors.app.application import Application, command
from raftactors.app.kv import KeyValue
from raftactors.cluster.local import LocalCluster
from raftactors.cluster.manifest import load_manifest
from raftactors.cluster.ports import hold_port
from raftactors.cluster.process import NODE_MARK, NodeStartError
from raftactors.cluster.supervisor import NodeState
from raftactors.config import Limits, RaftTiming
from raftactors.errors import (
    AddressInUseError,
    ApplicationUnknownError,
    ClusterUnreachableError,
    ConfigError,
    DataLockedError,
    ForeignDataError,
)

QUICK = RaftTiming(tick_ms=20)


class Fragile(Application):
    """An application whose constructor fails."""

    def __init__(self) -> None:
        raise RuntimeError("the constructor failed")

    @command
    def touch(self) -> None:
        """Nothing."""


def processes_of(cluster: LocalCluster) -> list[psutil.Process]:
    return [psutil.Process(process.pid) for process in cluster.nodes.values()]


def test_a_cluster_serves_and_leaves_nothing_behind() -> None:
    with LocalCluster(3, KeyValue, timing=QUICK) as cluster:
        path, processes = cluster.path, processes_of(cluster)
        leader_id = cluster.wait_leader()
        assert leader_id in cluster.nodes
        with cluster.client() as client:
            client.kv.put("a", "1")
            assert client.kv.get("a") == "1"
        status = cluster.status()
        assert status["leader_id"] == leader_id
        assert [node["state"] for node in status["nodes"]] == ["running"] * 3
        assert [node["raft"]["node_id"] for node in status["nodes"]] == [1, 2, 3]
        assert all(usage.rss_bytes > 1_000_000 for usage in cluster.usage().values())
        assert len(set(cluster.addresses.values())) == 3
    assert not path.exists()
    assert not any(process.is_running() for process in processes)
    assert cluster.stopped.is_set()
    cluster.stop()


def test_a_given_folder_continues_on_other_ports(tmp_path: Path) -> None:
    with LocalCluster(3, data_dir=tmp_path, timing=QUICK) as cluster, cluster.client() as client:
        client.kv.put("kept", "yes")
        before = cluster.cluster_id
    manifest = load_manifest(tmp_path)
    assert manifest is not None
    assert manifest.supervisor is None
    assert manifest.processes == ()
    blocked = [hold_port(int(address.rpartition(":")[2])) for address in manifest.client_addresses.values()]
    with LocalCluster(3, data_dir=tmp_path, timing=QUICK) as cluster, cluster.client() as client:
        assert client.kv.get("kept") == "yes"
        assert cluster.cluster_id == before
        assert {process.incarnation for process in cluster.nodes.values()} == {2}
    for held in blocked:
        held.close()
    with pytest.raises(ForeignDataError, match="a cluster of 3 nodes, not 1"):
        LocalCluster(1, data_dir=tmp_path).start()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with LocalCluster(1, data_dir=tmp_path, timing=QUICK):
        with pytest.raises(DataLockedError, match=f"process {os.getpid()} runs a cluster"):
            LocalCluster(1, data_dir=tmp_path).start()
        assert load_manifest(tmp_path) is not None


def test_the_folder_of_a_failed_block_is_kept_and_named() -> None:
    with pytest.raises(ZeroDivisionError) as caught, LocalCluster(1, timing=QUICK) as cluster:
        raise ZeroDivisionError
    (note,) = caught.value.__notes__
    assert note == f"the cluster's data and logs are kept in {cluster.path}"
    assert (cluster.path / "node-1" / "log").exists()
    subprocess.run(["rm", "-r", str(cluster.path)], check=True)


def test_killed_and_restarted_nodes_catch_up() -> None:
    with LocalCluster(3, timing=QUICK) as cluster, cluster.client() as client:
        first = cluster.wait_leader()
        client.kv.put("n", "1")
        cluster.kill(first)
        client.kv.put("n", "2")
        second = cluster.wait_leader()
        assert second != first
        assert cluster.status()["nodes"][first - 1]["state"] == NodeState.KILLED
        cluster.restart(first)
        assert cluster.nodes[first].incarnation == 2
        # With the other follower dead, a write needs the restarted node.
        cluster.kill(next(node_id for node_id in cluster.nodes if node_id not in {first, second}))
        client.kv.put("n", "3")
        assert client.kv.get("n") == "3"


def test_a_paused_leader_loses_its_office_and_finds_back() -> None:
    with LocalCluster(3, timing=QUICK) as cluster, cluster.client() as client:
        first = cluster.wait_leader()
        cluster.pause(first)
        client.kv.put("n", "1")
        assert cluster.wait_leader() != first
        cluster.resume(first)
        assert client.kv.get("n") == "1"
        assert first in cluster.node_statuses()


def test_no_leader_is_an_error_at_the_deadline() -> None:
    with LocalCluster(3, timing=QUICK) as cluster:
        cluster.kill(1)
        cluster.kill(2)
        with pytest.raises(ClusterUnreachableError, match="no leader within 300 ms"):
            while cluster.wait_leader(300):
                pass  # A leader that has lost its followers steps down after an election timeout.


def test_settings_reach_the_nodes(tmp_path: Path) -> None:
    limits = Limits(command_bytes_max=1_000)
    with LocalCluster(1, data_dir=tmp_path, timing=QUICK, limits=limits, node_options={"log_level": "DEBUG"}):
        text = (tmp_path / "node-1" / "config.json").read_text()
    assert '"command_bytes_max": 1000' in text
    assert '"log_level": "DEBUG"' in text
    assert '"tick_ms": 20' in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"nodes": 0}, "nodes is 0; it must be a whole number from 1 to 31"),
        ({"nodes": 32}, "nodes is 32"),
        ({"nodes": 3, "base_port": 65_535}, "base_port is 65535; 3 nodes need a number from 1 to 65527"),
        ({"nodes": 1, "node_options": {"colour": "red"}}, "node_options: .*colour"),
        ({"nodes": 1, "node_options": {"log_level": "LOUD"}}, "log_level is 'LOUD'"),
        ({"nodes": 1, "application": "bank"}, "write it as MODULE:CLASS"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_started(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        LocalCluster(**options)  # type: ignore[arg-type]


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    held = hold_port()
    held._socket.listen()
    with closing(held), pytest.raises(AddressInUseError, match=f"{held.address} is in use"):
        LocalCluster(1, data_dir=tmp_path, base_port=held.port).start()


def test_an_unknown_application_is_refused_with_the_nodes_own_words(tmp_path: Path) -> None:
    with pytest.raises(ApplicationUnknownError, match="there is no module 'nowhere'"):
        LocalCluster(3, "nowhere:Bank", data_dir=tmp_path).start()
    with LocalCluster(1, data_dir=tmp_path, timing=QUICK) as cluster:
        assert cluster.wait_leader() == 1, "the failed start must not claim the folder"


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    cluster = LocalCluster(1, Fragile, data_dir=tmp_path)
    with pytest.raises(NodeStartError, match="the constructor failed"):
        cluster.start()


def test_inside_a_node_no_cluster_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODE_MARK, "1")
    with pytest.raises(ConfigError, match='if __name__ == "__main__"'):
        LocalCluster(1).start()


def masks_of(pid: int) -> dict[str, int]:
    """The signals that a process blocks, ignores and catches, as the kernel shows them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line[:6]: int(line[7:], 16) for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt"))}


def test_nodes_begin_with_clean_signals_whatever_this_process_has() -> None:
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with LocalCluster(1, timing=QUICK) as cluster:
            masks = masks_of(cluster.nodes[1].pid)
            ignored = {number for number in signal.valid_signals() if masks["SigIgn"] >> (number - 1) & 1}
            assert ignored == {signal.SIGPIPE, signal.SIGXFSZ}, "what Python ignores in every process"
            assert masks["SigBlk"] == 0
            assert masks["SigCgt"] >> (signal.SIGTERM - 1) & 1
            os.kill(cluster.nodes[1].pid, signal.SIGKILL)
            deadline_s = time.monotonic() + 30
            while cluster.nodes[1].incarnation < 2 and time.monotonic() < deadline_s:
                time.sleep(0.02)
            assert cluster.nodes[1].incarnation == 2, "a node whose exit code nobody knows is started again as well"
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_too_few_descriptors_are_said_before_anything_is_started(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, hard))
    try:
        with pytest.raises(ConfigError, match=r"and its limit is 50; raise it with `ulimit -n \d+` or more"):
            LocalCluster(3, data_dir=tmp_path / "data").start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not (tmp_path / "data").exists()


NOISY = """
import io, os, subprocess, sys
print("no newline before ready", end="", flush=True)
os.close(1)
from raftactors.app import Application, command

spoken = sys.stdout

class Noisy(Application):
    def __init__(self):
        self.n = 0
        sys.stdout.buffer.write(b"\\xff\\xfe")
        sys.stdout, sys.stderr = io.StringIO(), None

    @command
    def speak(self) -> int:
        self.n += 1
        print("*" * 100_000, file=spoken)
        return self.n

    @command
    def inherited(self) -> int:
        return int(subprocess.run(["sh", "-c", "ls /proc/self/fd | wc -l"], capture_output=True).stdout)
"""


def test_an_application_may_do_what_it_likes_with_its_output(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    application, options = f"{tmp_path / 'noisy.py'}:Noisy", {"log_bytes_max": 200_000}
    with (
        LocalCluster(1, application, data_dir=tmp_path / "data", timing=QUICK, node_options=options) as cluster,
        cluster.client() as client,
    ):
        for number in range(1, 31):
            assert client.call("speak") == number
        # Standard input, output and error, and the folder that ls reads: neither pipe nor log.
        assert client.call("inherited") == 4
        log = cluster.nodes[1].log_path
    text = log.read_bytes()
    assert len(text) < 1_300_000, "three megabytes were printed"
    kept = log.with_name("log.1").read_bytes()
    assert b"*" in kept
    assert b"\0" not in text + kept


BANK = """
import storage  # the user's own module, beside the program
from raftactors.app import Application, command
from raftactors.cluster import LocalCluster

class Bank(Application):
    def __init__(self):
        self.money = 0

    @command
    def deposit(self, amount: int) -> int:
        self.money += storage.DOUBLE * amount
        print("deposited", amount)
        return self.money

"""
GUARDED = """
if __name__ == "__main__":
    with LocalCluster(3, Bank) as cluster, cluster.client() as client:
        print("balance", client.call("deposit", 5), flush=True)
"""
UNGUARDED = """
with LocalCluster(1, Bank) as cluster:
    print("never")
"""
WAITING = """
import sys
if __name__ == "__main__":
    cluster = LocalCluster(3, Bank).start()
    if sys.argv[1] == "pause":
        cluster.pause(2)
    print(*(process.pid for process in cluster.nodes.values()), flush=True)
    sys.stdin.read()
"""


def write_program(folder: Path, end: str) -> Path:
    for name in ("storage", "transport"):
        (folder / f"{name}.py").write_text("DOUBLE = 2\n")
    program = folder / "program.py"
    program.write_text(BANK + end)
    return program


def test_a_class_of_the_script_itself_with_a_storage_module_beside_it(tmp_path: Path) -> None:
    program = write_program(tmp_path, GUARDED)
    done = subprocess.run(
        [sys.executable, program.name], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "balance 10\n", "")


def test_a_script_that_starts_its_cluster_unguarded_is_told_so(tmp_path: Path) -> None:
    program = write_program(tmp_path, UNGUARDED)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ApplicationUnknownError" in done.stderr
    assert 'put the start of the cluster under `if __name__ == "__main__":`' in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("end", "word"),
    [(signal.SIGKILL, ""), (signal.SIGKILL, "pause"), (None, "")],
    ids=["killed", "killed with a paused node", "ended"],
)
def test_no_node_outlives_its_program(tmp_path: Path, end: signal.Signals | None, word: str) -> None:
    """A paused node cannot notice: the kernel ends it, because its process group is orphaned while it is stopped."""
    program = write_program(tmp_path, WAITING)
    with subprocess.Popen(
        [sys.executable, str(program), word],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as child:
        assert child.stdout is not None
        descriptors = [os.pidfd_open(int(pid)) for pid in child.stdout.readline().split()]
        assert len(descriptors) == 3
        try:
            if end is None:
                child.communicate(timeout=30)  # Its input ends, and it with it, without stopping the cluster.
            else:
                child.send_signal(end)
            for descriptor in descriptors:
                assert select.select([descriptor], [], [], 30)[0], "a node lives on without its supervisor"
        finally:
            for descriptor in descriptors:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                os.close(descriptor)
