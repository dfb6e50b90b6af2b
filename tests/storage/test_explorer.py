"""Every state that a power cut may leave behind recovers; see `explorer`."""

from __future__ import annotations

from collections import Counter

import pytest

from .explorer import Findings, explore, explore_in_processes
from .workloads import WORKLOADS, record


def check(findings: Findings, states: int) -> None:
    assert findings.failures == []
    assert findings.states >= states
    assert findings.torn > findings.states // 20


@pytest.mark.long
@pytest.mark.timeout(600)
def test_100_000_crash_states_recover() -> None:
    # More than are asked for: shares may meet the same state, of these numbers one in twenty does.
    check(explore_in_processes(110_000), 100_000)


@pytest.mark.release
@pytest.mark.timeout(6 * 3_600)
def test_5_000_000_crash_states_recover() -> None:
    check(explore_in_processes(5_800_000, seed=2), 5_000_000)


@pytest.mark.parametrize("name", WORKLOADS)
def test_each_workload_is_cut_at_every_call(name: str) -> None:
    cuts = record(name).cuts
    assert len(cuts) > 20
    assert len({cut.allowed for cut in cuts}) > (1 if name != "first boot" else 0)
    findings = explore(150, workloads=(name,))
    assert findings.failures == []
    assert findings.states == 150


def test_a_workload_is_recorded_the_same_way_each_time() -> None:
    first, second = (Counter(cut.allowed for cut in record("rotate").cuts) for _ in range(2))
    assert first == second
