from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from raftactors.cluster.process import NodeProcess
from raftactors.config import Member, NodeConfig

FAKE_NODE = (sys.executable, "-P", str(Path(__file__).with_name("fake_node.py")))


@pytest.fixture
def fake_process(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Makes node processes that act as told; what still runs at the end of the test is killed."""
    with ExitStack() as stack:

        def make(act: str, node_id: int = 1) -> NodeProcess:
            folder = tmp_path / f"node-{node_id}"
            folder.mkdir()
            config = NodeConfig(
                cluster_id=7,
                node_id=node_id,
                data_dir=folder / "data",
                members=(Member(node_id=node_id, peer_address="127.0.0.1:0", client_address="127.0.0.1:0"),),
                application=f"{act}:Fake",
            )
            (folder / "config.json").write_text(config.to_json())
            process = NodeProcess(node_id, folder / "config.json", folder / "log", command=FAKE_NODE)
            stack.callback(process.close)
            return process

        yield make
