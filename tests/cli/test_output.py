"""What the status shows of disks and leaves out where there is little room, and how results are printed."""

from __future__ import annotations

from typing import Any

import pytest

from raftactors.cli.output import print_value, status_lines


def status(**raft: Any) -> dict[str, Any]:
    """The status of a cluster of one node."""
    report = {"role": "leader", "term": 1, "commit": 2, "applied": 2, "disk": "ok", "durability": "fsync"}
    report |= {"scrub": {"passes": 1, "bytes": 9, "damage": []}} | raft
    node = {"node_id": 1, "state": "running", "pid": 7, "raft": report, "cpu_percent": 1.0, "rss_bytes": 2**20}
    return {"application": "a:B", "data_dir": "/d", "nodes": [node | {"reason": ""}]}


@pytest.mark.parametrize(
    ("raft", "shown"),
    [
        ({}, "ok"),
        ({"disk": "full"}, "full"),
        ({"durability": "none"}, "ok, none"),
        ({"durability": "interval:50", "disk": "stalled"}, "stalled, interval:50"),
        ({"scrub": {"damage": ["x"]}}, "damaged"),
        ({"scrub": {"damage": ["x"]}, "disk": "full"}, "full"),
    ],
)
def test_the_disk_has_a_column(raft: dict[str, Any], shown: str) -> None:
    header, row = (line.plain for line in status_lines(status(**raft))[:2])
    assert row[header.index("disk") : header.index("cpu")].strip() == shown


def test_damage_has_lines_of_its_own() -> None:
    document = status(scrub={"damage": ["one file", "another"]})
    remarks = ["node 1: one file", "node 1: another"]
    assert [line.plain for line in status_lines(document)[-2:]] == remarks


def test_a_node_that_does_not_answer_has_no_disk() -> None:
    document = status()
    document["nodes"][0] |= {"raft": None, "reason": "killed"}
    header, row, remark = (line.plain for line in status_lines(document))
    assert row[header.index("disk")] == "-"
    assert remark == "node 1: killed"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_result_may_have_keys_that_json_lacks(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    print_value({1: "one", b"k": [{None: b"x"}]}, as_json=as_json)
    text = '{"1": "one", "b\'k\'": [{"None": {"base64": "eA=="}}]}'
    assert capsys.readouterr().out == (f'{{"result": {text}}}\n' if as_json else f"{text}\n")
