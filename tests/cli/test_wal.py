"""`wal verify`, `wal dump`, `wal repair`: what they say of good, torn, damaged, foreign and unreadable logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.errors import ExitCode
from raftactors.storage import WalBatch, open_data_dir

from .conftest import Run

MakeLog = Callable[..., Path]


def image(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def make_log(tmp_path: Path) -> MakeLog:
    """A closed log of some segments; returns its folder."""

    def make(name: str = "node-1", *, node_id: int = 1, count: int = 40) -> Path:
        folder = tmp_path / name
        opened = open_data_dir(folder, cluster_id=9, node_id=node_id, segment_bytes=16_384)
        for index in range(1, count + 1):
            opened.wal.append([WalBatch(HardState(2, 1, index - 1), [Entry(2, index, bytes(400))])])
        opened.close()
        return folder

    return make


def last_segment(folder: Path) -> Path:
    return max((folder / "wal").glob("*.wal"))


def tear(folder: Path) -> bytes:
    """Leave the beginning of a write behind the end of the log, as a power cut does."""
    opened = open_data_dir(folder, cluster_id=9, node_id=1, segment_bytes=16_384)
    path, start = last_segment(folder), opened.wal._place.offset
    before = path.read_bytes()
    opened.wal.append([WalBatch(None, [Entry(2, 41, b"x" * 500)])])
    opened.close()
    torn = before[:start] + path.read_bytes()[start : start + 200] + before[start + 200 :]
    path.write_bytes(torn)
    return torn


def test_a_good_log(run: Run, make_log: MakeLog) -> None:
    folder = make_log()
    before = image(folder)
    done = run("wal", "verify", str(folder))
    assert (done.code, done.err) == (ExitCode.OK, "")
    assert done.out.startswith("good: cluster 9, node 1: index 1 to 40, term 2, ")
    document = run("wal", "verify", str(folder), "--json").document
    assert (document["verdict"], document["first_index"], document["last_index"]) == ("clean", 1, 40)
    assert run("wal", "repair", str(folder)).out.startswith("nothing to repair: ")
    assert image(folder) == before


def test_a_torn_log_is_told_and_repaired_and_the_original_kept(run: Run, make_log: MakeLog) -> None:
    folder = make_log()
    torn = tear(folder)
    before = image(folder)
    done = run("wal", "verify", str(folder))
    assert done.code == ExitCode.DATA_TORN
    assert f"torn: {last_segment(folder)}: " in done.out
    assert "(index 41 and up)" in done.out
    assert run("wal", "dump", str(folder)).code == ExitCode.DATA_TORN
    assert image(folder) == before
    repaired = run("wal", "repair", str(folder), "--json")
    assert repaired.code == ExitCode.OK
    assert Path(repaired.document["kept"]).read_bytes() == torn.rstrip(b"\0")
    assert run("wal", "verify", str(folder)).code == ExitCode.OK
    opened = open_data_dir(folder, cluster_id=9, node_id=1, segment_bytes=16_384)
    assert [entry.index for entry in opened.entries] == list(range(1, 41))
    opened.close()


@pytest.mark.parametrize("command", ["verify", "repair", "dump"])
def test_damage_is_named_with_file_offset_and_indexes_and_left_alone(run: Run, make_log: MakeLog, command: str) -> None:
    folder = make_log()
    path = min((folder / "wal").glob("*.wal"))
    content = bytearray(path.read_bytes())
    content[6_000] ^= 1
    path.write_bytes(content)
    before = image(folder)
    done = run("wal", command, str(folder))
    assert done.code == ExitCode.DATA_CORRUPT
    assert f"{path}: damage at offset 5" in done.err
    assert "(index 4 and up)" in done.err
    assert image(folder) == before
    if command == "dump":
        assert done.out.splitlines()[-1].split()[3:6] == ["hard_state", "2", "0"]
    error = json.loads(run("wal", command, str(folder), "--json").err)["error"]
    assert error["exit_code"] == ExitCode.DATA_CORRUPT


def test_a_foreign_segment(run: Run, make_log: MakeLog) -> None:
    folder, other = make_log(), make_log("node-2", node_id=2)
    last_segment(folder).write_bytes(last_segment(other).read_bytes())
    done = run("wal", "verify", str(folder))
    assert done.code == ExitCode.DATA_FOREIGN
    assert "node 2 where cluster 9, node 1 was expected" in done.error


def test_what_cannot_be_read(run: Run, make_log: MakeLog, tmp_path: Path) -> None:
    done = run("wal", "verify", str(tmp_path / "nowhere"))
    assert done.code == ExitCode.DATA_UNREADABLE
    assert "no IDENTITY here" in done.error
    folder = make_log()
    path = last_segment(folder)
    path.unlink()
    path.mkdir()
    done = run("wal", "verify", str(folder))
    assert done.code == ExitCode.DATA_UNREADABLE
    assert f"{path}: cannot be read" in done.error


def test_a_folder_in_use_is_left_alone(run: Run, make_log: MakeLog) -> None:
    folder = make_log()
    opened = open_data_dir(folder, cluster_id=9, node_id=1, segment_bytes=16_384)
    for command in ("verify", "dump", "repair"):
        done = run("wal", command, str(folder))
        assert done.code == ExitCode.DATA_LOCKED
        assert "stop the node first" in done.err
    opened.close()


def test_dump_lists_every_kind_of_record(run: Run, tmp_path: Path) -> None:
    opened = open_data_dir(tmp_path / "n", cluster_id=9, node_id=1, segment_bytes=16_384)
    snapshot = Snapshot(6, 2, ConfState((1, 2, 3)))
    opened.wal.append([WalBatch(HardState(2, 3, 6), [Entry(2, 7, None), Entry(2, 8, b"abc")], snapshot)])
    opened.close()
    lines = run("wal", "dump", str(tmp_path / "n")).out.splitlines()
    assert lines[0].split() == ["segment", "offset", "batch", "kind", "term", "index", "bytes", "detail"]
    rows = [(row["kind"], row["term"], row["index"], row["detail"]) for row in dump_json(run, tmp_path / "n")]
    assert rows == [
        ("snapshot", 2, 6, "voters 1,2,3"),
        ("entry", 2, 7, "normal, payload absent"),
        ("entry", 2, 8, "normal, payload 3 bytes"),
        ("hard_state", 2, 0, "vote 3, commit 6"),
    ]
    assert len(lines) == 5


def test_dump_of_a_range(run: Run, make_log: MakeLog) -> None:
    folder = make_log()
    assert [row["index"] for row in dump_json(run, folder, "--from", "12", "--to", "14")] == [12, 13, 14]
    assert [row["index"] for row in dump_json(run, folder, "--from", "39")] == [39, 40]
    assert [row["index"] for row in dump_json(run, folder, "--to", "2")] == [1, 2]


def dump_json(run: Run, folder: Path, *words: str) -> list[dict[str, object]]:
    done = run("wal", "dump", str(folder), "--json", *words)
    assert done.code == ExitCode.OK, done.err
    return [json.loads(line) for line in done.out.splitlines()]
