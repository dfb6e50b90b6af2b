"""The replayer notices every departure: each kind of change, in every kind of field."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.compare import compare_outputs
from tests.conformance.own_trace import Recorder, record_trace
from tests.conformance.planting import PLANTS, Site, cut, path_of, sites
from tests.conformance.replay import main
from tests.conformance.replaying import load_trace, replay
from tests.conformance.shared_files import ABSENT_REASON, TRACES
from tests.conformance.trace_schema import OPERATIONS, RECORDS, Json
from tests.conformance.world import World

REPLAY = Path(__file__).with_name("replay.py")
GOLDEN = sorted(TRACES.glob("trace-*.jsonl.gz"))


@cache
def _own_lines() -> list[Json]:
    return record_trace()


def _unnoticed(lines: list[Json], places: dict[str, Site], plant: str) -> list[str]:
    """The key paths at which a planted change was missed, or reported for another place.

    Each operation is performed once, and what came out is compared with every changed form of its line.
    """
    missed, world = [], World()
    by_line: dict[int, list[tuple[str, Site]]] = {}
    for path, site in places.items():
        by_line.setdefault(site.line, []).append((path, site))
    for number, line in enumerate(lines[1 : max(by_line) + 2]):
        actual = world.perform(line["op"])
        for path, site in by_line.get(number, ()):
            changed = cut(lines, number)
            if not PLANTS[plant](changed, site):
                continue
            found = compare_outputs(changed[-1]["out"], actual)
            if found is None:
                missed.append(f"{path} at operation {number}: not noticed")
            elif not _names_place(found.path, site.steps):
                missed.append(f"{path} at operation {number}: reported as {found.path}")
    return missed


def _names_place(reported: str, steps: tuple[str | int, ...]) -> bool:
    """Whether a difference is reported at the planted place or inside it.

    A container that lost its only item counts as absent, and is reported itself; a longer list shows one item more.
    """
    planted, parent = path_of(steps), path_of(steps[:-1])
    return reported.startswith(planted) or reported == parent


def test_own_trace_replays() -> None:
    failure = replay(_own_lines())
    assert failure is None, failure.describe()


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_changes_in_own_trace(plant: str) -> None:
    places = sites(_own_lines())
    assert len(places) > 150
    assert _unnoticed(_own_lines(), places, plant) == []


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_changes_fail_the_replay_of_a_whole_trace(plant: str) -> None:
    """For some of the key paths, from a changed file's lines to the failure that is shown."""
    lines = _own_lines()
    for site in list(sites(lines).values())[::12]:
        changed = cut(lines, site.line)
        if PLANTS[plant](changed, site):
            failure = replay(changed)
            assert failure is not None, site
            assert failure.number == site.line
            assert _names_place(failure.difference.path, site.steps), failure.describe()


@cache
def _golden(path: Path) -> list[Json]:
    return load_trace(path)


@cache
def _golden_sites() -> tuple[dict[Path, dict[str, Site]], set[str]]:
    """For every key path of the golden traces its earliest place, by trace."""
    best: dict[str, tuple[int, Path, Site]] = {}
    for path in GOLDEN:
        for key, site in sites(load_trace(path)).items():
            if key not in best or site.line < best[key][0]:
                best[key] = (site.line, path, site)
    by_trace: dict[Path, dict[str, Site]] = {}
    for key, (_, path, site) in best.items():
        by_trace.setdefault(path, {})[key] = site
    return by_trace, set(best)


@pytest.mark.skipif(not GOLDEN, reason=ABSENT_REASON)
@pytest.mark.parametrize("plant", PLANTS)
def test_planted_changes_in_golden_traces(plant: str) -> None:
    by_trace, keys = _golden_sites()
    assert len(keys) > 250
    assert keys >= {
        "state.term",
        "ready.messages[].entries[].data",
        "conf_applied[].conf.voters[]",
        "new_seq",
        "detail",
    }
    missed = [text for path, places in by_trace.items() for text in _unnoticed(_golden(path), places, plant)]
    assert missed == []


@pytest.mark.parametrize("key", sorted(set(RECORDS["header"].required) - {"scenario", "seed", "puppet"}))
def test_changed_header_is_noticed(key: str) -> None:
    lines = _own_lines()
    header = dict(lines[0])
    header[key] = "other" if isinstance(header[key], str) else header[key] + 1
    failure = replay([header, *lines[1:]])
    assert failure is not None
    assert failure.difference.path == f"header.{key}"


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("used", [True, False])
def test_header_only_hints_at_asynchronous_writes(said: bool, used: bool) -> None:
    """Each node's own configuration decides, whatever the header says of all of them."""
    recorder = Recorder()
    recorder.create(1, async_storage_writes=used)
    recorder.do("tick", 1, n=20)
    recorder.settle()
    header, *lines = recorder.lines()
    failure = replay([header | {"async": said}, *lines])
    assert failure is None, failure.describe()


def test_unknown_header_key_is_noticed() -> None:
    lines = _own_lines()
    failure = replay([lines[0] | {"planted": 0}, *lines[1:]])
    assert failure is not None
    assert failure.difference.path == "header.planted"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_unknown_key_of_an_operation_is_noticed(name: str) -> None:
    line = {"n": 0, "op": {"op": name, "planted": 0}, "out": {"err": None}}
    header = _own_lines()[0] | {"ops": 1, "nodes": 0}
    failure = replay([header, line])
    assert failure is not None
    assert failure.difference.path.startswith("op.")


@pytest.mark.parametrize("change", [{"n": 1}, {"planted": 0}, {"n": "0"}])
def test_changed_line_is_noticed(change: Json) -> None:
    lines = _own_lines()
    failure = replay([lines[0], lines[1] | change, *lines[2:]])
    assert failure is not None
    assert failure.difference.path == "n"


def test_disagreeing_bytes_of_a_membership_change_are_noticed() -> None:
    entry = {"term": 2, "index": 6, "type": "conf_v1", "hex": "080010011803"}
    entry["cc"] = {"v1": True, "changes": [{"type": "remove", "node": 2}]}
    message = {"type": "MsgApp", "from": 2, "to": 1, "term": 2, "log_term": 1, "index": 5, "entries": [entry]}
    lines = cut(_own_lines(), 1)
    lines.append({"n": 2, "op": {"op": "step", "id": 1, "msg": message}, "out": {"err": None}})
    lines[0]["ops"] = 3
    failure = replay(lines)
    assert failure is not None
    assert "is not the encoding" in str(failure.difference.actual)


def _write(path: Path, lines: list[Json]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def test_command_line_counts_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _own_lines()
    changed = cut(lines, len(lines) - 2)
    changed[-1]["out"]["state"]["term"] += 1
    _write(tmp_path / "trace-0001.jsonl.gz", lines)
    _write(tmp_path / "trace-0002.jsonl.gz", changed)
    (tmp_path / "trace-0003.jsonl.gz").write_bytes(b"not gzip")
    assert main([str(tmp_path), "--show", "1"]) == 1
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == "1 passed, 2 failed"
    assert f"operation {len(lines) - 2}: " in shown
    assert "at        state.term" in shown
    assert "operations of this node before it:" in shown
    assert main([str(tmp_path / "trace-0001.jsonl.gz")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


def test_command_line_refuses_a_folder_without_traces(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2


def test_script_runs_from_anywhere_in_several_processes(tmp_path: Path) -> None:
    for number in (1, 2):
        _write(tmp_path / f"trace-000{number}.jsonl.gz", cut(_own_lines(), 20))
    done = subprocess.run(
        [sys.executable, str(REPLAY), str(tmp_path), "--jobs", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["2 passed, 0 failed"]), done.stderr
