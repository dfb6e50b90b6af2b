"""A forked copy of the program that runs a cluster: it can do nothing to the cluster, and holds nothing of it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from raftactors.cluster.control import ask
from raftactors.cluster.manifest import FolderLock, load_manifest

PROGRAM = """
import atexit, json, multiprocessing, os, signal, socket, sys
from pathlib import Path
from raftactors.cluster import LocalCluster
from raftactors.config import RaftTiming
from raftactors.errors import RaftActorsError

def descriptors(pid):
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            pass
    return links

def use(cluster, report):
    answers = {}
    for name in ("client", "status", "node_statuses", "usage", "leader", "wait_leader", "stop", "start"):
        try:
            getattr(cluster, name)()
        except RaftActorsError as error:
            answers[name] = str(error)
    for name in ("kill", "pause", "resume", "restart"):
        try:
            getattr(cluster, name)(1)
        except RaftActorsError as error:
            answers[name] = str(error)
    cluster.nodes[1].kill()
    answers["node"] = cluster.nodes[1].exit_text()
    cluster._supervisor.stop()
    os.write(report, json.dumps(answers).encode())

def main():
    cluster = LocalCluster(1, data_dir=sys.argv[1], timing=RaftTiming(tick_ms=20))
    before = set(descriptors(os.getpid()))
    with cluster:
        mine = set(descriptors(os.getpid())) - before
        # By the end of the block, with an exit, and by a process of multiprocessing.
        reader, writer = os.pipe()
        if os.fork() == 0:
            use(cluster, writer)
            sys.exit(0)
        os.wait()
        answers = json.loads(os.read(reader, 65_536))
        context = multiprocessing.get_context("fork")
        child = context.Process(target=cluster.__exit__, args=(None, None, None))
        child.start()
        child.join()
        copy = os.fork()
        if copy == 0:
            os.write(writer, b"forked")
            signal.pause()
            os._exit(0)
        os.read(reader, 6)
        sockets = {link for link in mine if not link.startswith("anon_inode")}
        held = sorted(sockets & set(descriptors(copy)))
        ports = [int(process.rpartition(":")[2]) for process in cluster.addresses.values()]
        print(json.dumps({
            "answers": answers, "multiprocessing": child.exitcode, "copy": copy, "ports": ports,
            "mine": sorted(sockets), "held": held, "alive": cluster.nodes[1].is_alive,
            "leader": cluster.wait_leader(20_000), "node": cluster.nodes[1].pid,
        }), flush=True)
        sys.stdin.read()

if __name__ == "__main__":
    main()
"""


def test_a_copy_can_do_nothing_to_the_cluster_and_holds_nothing_of_it(tmp_path: Path) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "data"
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(program), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        found = json.loads(parent.stdout.readline())
        node = os.pidfd_open(found["node"])
        try:
            refused = set(found["answers"]) - {"node"}
            assert refused == {"client", "status", "node_statuses", "usage", "leader", "wait_leader", "stop", "start",
                               "kill", "pause", "resume", "restart"}  # fmt: skip
            assert all("was forked from process" in found["answers"][name] for name in refused)
            assert found["answers"]["node"] == "not started"
            assert found["multiprocessing"] == 0
            assert found["alive"]
            assert found["leader"] == 1
            manifest = load_manifest(folder)
            assert manifest is not None
            assert isinstance(ask(manifest.control_socket, "status"), dict)
            assert any("cluster.lock" in link for link in found["mine"])
            assert len(found["mine"]) > 4
            assert found["held"] == []
            # The copy outlives its original: neither folder nor ports nor the node may hang on it.
            parent.kill()
            parent.wait(20)
            assert select.select([node], [], [], 30)[0], "the node lives on without its supervisor"
            FolderLock(folder).release()
            for port in found["ports"]:
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
                    other.bind(("127.0.0.1", port))  # Without SO_REUSEADDR, so that nobody else may have it bound.
        finally:
            os.kill(found["copy"], signal.SIGKILL)
            os.close(node)
