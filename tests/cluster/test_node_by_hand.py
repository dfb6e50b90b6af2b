"""A node that nobody supervises: its ready line is one line of JSON on standard output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raftactors.cluster.ports import hold_port
from raftactors.config import Member, NodeConfig, RaftTiming

CHATTY = """
import sys
print("no newline", end="", flush=True)
from raftactors.app.kv import KeyValue

class Chatty(KeyValue):
    def __init__(self):
        super().__init__()
        sys.stdout = None
"""


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    """The configuration of a cluster of one node with a chatty application, whose ports are free."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    held = [hold_port(), hold_port()]
    peer, client = (port.address for port in held)
    config = NodeConfig(
        cluster_id=7,
        node_id=1,
        data_dir=tmp_path / "data",
        members=(Member(node_id=1, peer_address=peer, client_address=client),),
        application=f"{tmp_path / 'chatty.py'}:Chatty",
        timing=RaftTiming(tick_ms=20),
    )
    for port in held:
        port.close()
    path = tmp_path / "config.json"
    path.write_text(config.to_json())
    return path


def test_it_prints_one_line_in_any_encoding_and_hears_sigterm(config_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "raftactors.node", str(config_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-16"},
    ) as node:
        try:
            assert node.stdout is not None
            line = node.stdout.readline()
            assert line.startswith(b"no newline{"), line
            ready = json.loads(line.removeprefix(b"no newline"))
            assert (ready["event"], ready["node_id"], ready["pid"]) == ("ready", 1, node.pid)
            node.send_signal(signal.SIGTERM)
            out, _ = node.communicate(timeout=60)
            assert (node.returncode, out) == (0, b"")
        finally:
            node.kill()


def test_descriptors_of_an_earlier_supervisor_are_refused(config_path: Path) -> None:
    document = json.loads(config_path.read_text())
    config_path.write_text(json.dumps(document | {"parent_fd": 900}))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "raftactors.node", str(config_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (10, "")
    assert done.stderr == "raftactors: parent_fd is 900, which is no open pipe; leave it out to start a node by hand\n"
