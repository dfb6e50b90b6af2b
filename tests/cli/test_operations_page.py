"""docs/operations.md word for word: its commands, in its order, on 127.0.0.1, .2 and .3; only the ports are others."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from .by_hand import HandRun, end_of, ready_line

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def commands() -> list[str]:
    """The lines that a reader is to type."""
    return re.findall(r"^    raftactors (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.long
def test_three_hosts_by_hand(tmp_path: Path) -> None:
    with HandRun(tmp_path) as cluster:
        nodes = []
        printed = {}
        for line in commands():
            for node_id, member in cluster.members.items():
                line = line.replace(f"--member {node_id}=127.0.0.{node_id}", f"--member {member}")  # noqa: PLW2901
                line = line.replace(f"127.0.0.{node_id}:7401", cluster.client_addresses[node_id])  # noqa: PLW2901
            words = shlex.split(line)
            if words[:2] == ["node", "run"]:
                nodes.append(cluster.start(*words[2:]))
                assert ready_line(nodes[-1])
            else:
                done = cluster.command(*words)
                assert (done.code, done.err) == (0, ""), line
                printed[" ".join(words[:2])] = done.out
        assert len(nodes) == 3
        assert printed["put greeting"] == "1\n"
        assert printed["get greeting"] == "hello\n"
        assert printed["call --query"] == "1\n"
        status = next(out for words, out in printed.items() if words.startswith("status"))
        assert [line.split()[:2] for line in status.splitlines()[2:]] == [[str(n), "running"] for n in (1, 2, 3)]
        for process in nodes:
            process.terminate()
        assert [end_of(process).code for process in nodes] == [0, 0, 0]
