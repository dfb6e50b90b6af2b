"""The simulator as a user meets it: from Python, from the shell, with an application of their own."""

from __future__ import annotations

import json

import pytest

from raftactors.errors import ConfigError
from raftactors.testing.simulation import FAULT_KINDS, draw_plan, simulate
from raftactors.testing.simulation.__main__ import main
from tests.simulation.counting import Counting, Forgetful
from tests.simulation.mutants import MUTANTS


def test_an_application_of_ones_own_runs() -> None:
    for seed in range(1, 6):
        outcome = simulate(seed, Counting())
        assert outcome.ok, outcome.text
        assert outcome.coverage["writes"] >= 10
        assert outcome.coverage["reads"] >= 10


def test_an_application_whose_snapshot_forgets_something_is_found_out() -> None:
    assert any(simulate(seed, Forgetful()).rule in {"wrong_result", "wrong_read"} for seed in range(1, 30))


def test_faults_can_be_switched_off() -> None:
    calm = draw_plan(3, without=FAULT_KINDS)
    assert calm.strengths == {}
    assert draw_plan(3, without=("loss",)).strengths == {
        kind: strength for kind, strength in draw_plan(3).strengths.items() if kind != "loss"
    }
    outcome = simulate(3, without=FAULT_KINDS)
    assert outcome.ok
    assert not any(outcome.coverage[kind] for kind in FAULT_KINDS)
    with pytest.raises(ConfigError, match="unknown faults"):
        draw_plan(1, without=("gremlins",))


@pytest.mark.long
def test_every_fault_strikes_and_every_role_is_taken_in_a_few_seeds() -> None:
    struck: set[str] = set()
    for seed in range(1, 41):
        struck.update(name for name, number in simulate(seed).coverage.items() if number)
    always_in_force = {"skew", "batching", "expiry"}
    assert set(FAULT_KINDS) - always_in_force <= struck
    assert {"role candidate leader", "role leader follower", "snapshot_restored", "write_cut"} <= struck
    assert {"definite_failure", "unknown_outcome", "session_expired", "client_retry"} <= struck


def test_the_command_line_counts_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "1-4"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 passed, 0 failed"


def test_the_command_line_writes_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "5", "--json", "--without", "loss,pause"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["seeds"] == 1
    assert document["failed"] == []
    assert "loss" not in document["coverage"]


def test_a_failure_comes_with_a_command_that_replays_it_and_a_smaller_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS["acknowledge_before_disk"].plant(monkeypatch)
    assert main(["--seeds", "1-1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "0 passed, 1 failed"
    whole = next(line for line in lines if line.startswith("  replay"))
    smallest = next(line for line in lines if line.startswith("  smallest"))
    digests = [line.split()[-1] for line in lines if line.split()[:1] == ["digest"]]

    for command, digest in zip((whole, smallest), digests, strict=True):
        assert main(command.split("simulation")[1].split()) == 1
        assert digest in capsys.readouterr().out
    assert "--without" in smallest


def test_every_event_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "2", "--trace", "--events", "50"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 50


@pytest.mark.parametrize(
    "arguments", [["--without", "gremlins"], ["--jobs", "0"], ["--seeds", "9-1"]], ids=lambda words: words[0]
)
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_a_missing_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1", "--workload", "nowhere:Nothing"]) == 2
    assert "nowhere" in capsys.readouterr().err
