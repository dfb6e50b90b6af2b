"""No damage to a synced log passes for a shorter or another log; see `damage`."""

from __future__ import annotations

import pytest

from .damage import KINDS, Findings, damages, log_of_64_kib, sweep, sweep_in_processes


def check(findings: Findings) -> None:
    assert findings.failures == []
    outcomes = findings.outcomes
    assert {f"{kind} refused" for kind in KINDS} <= set(outcomes)
    # What is not refused is damage behind the end of the log, in the last segment of four.
    assert sum(count for name, count in outcomes.items() if name.endswith("whole")) < sum(outcomes.values()) / 4


@pytest.mark.parametrize(("every", "damaged"), [(500, 1_000), pytest.param(25, 20_000, marks=pytest.mark.long)])
def test_a_sample_of_all_damage_is_noticed(every: int, damaged: int) -> None:
    findings = sweep_in_processes(every=every)
    check(findings)
    assert not [name for name in findings.outcomes if name.endswith("cut off")]
    assert sum(findings.outcomes.values()) > damaged


@pytest.mark.long
def test_a_sample_of_all_damage_behind_an_unfinished_append_is_noticed() -> None:
    findings = sweep_in_processes(every=100, acknowledged=False)
    check(findings)
    cut_off = sum(count for name, count in findings.outcomes.items() if name.endswith("cut off"))
    assert 0 < cut_off < 100


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("acknowledged", [True, False])
def test_all_damage_is_noticed(acknowledged: bool) -> None:
    findings = sweep_in_processes(acknowledged=acknowledged)
    check(findings)
    assert sum(findings.outcomes.values()) > 620_000


def test_only_damage_to_the_unacknowledged_batch_cuts_it_off() -> None:
    _, log, least = log_of_64_kib(acknowledged=False)
    assert least.entries == log.entries[: len(least.entries)] != log.entries
    findings = sweep(every=400, acknowledged=False)
    assert findings.failures == []


@pytest.mark.parametrize("kind", KINDS)
def test_shares_and_steps_leave_no_damage_out(kind: str) -> None:
    contents, _, _ = log_of_64_kib(acknowledged=True)
    step = {"bit": 4_096, "word": 64, "length": 512, "exchanged": 64, "copied": 128}.get(kind, 1)
    whole = [place for place, _ in damages(kind, contents, 0, step)]
    shares = [place for i in range(3) for place, _ in damages(kind, contents, i * step, 3 * step)]
    assert sorted(whole) == sorted(shares)
