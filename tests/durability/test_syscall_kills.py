"""SIGKILL at storage calls, and of any subset of nodes under load, loses nothing, needs no repair (RELIABILITY A4)."""

from __future__ import annotations

import pytest

from tests.durability.syscall_kills import random_kills, sweep


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("preload_shim")
@pytest.mark.parametrize("calls", [3, pytest.param(12, marks=pytest.mark.long)])
def test_a_node_survives_a_kill_at_each_of_its_first_calls(calls: int) -> None:
    swept = sweep(first=1, last=calls)
    assert swept.clean, swept.as_dict()
    assert swept.kills == calls


@pytest.mark.timeout(120)
def test_a_few_random_kills() -> None:
    outcome = random_kills(4, seed=1)
    assert outcome.account.clean, outcome.as_dict()


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("preload_shim")
def test_a_node_survives_a_kill_at_every_call_of_a_recorded_run() -> None:
    swept = sweep(first=1, last=2_000)
    assert swept.clean, swept.as_dict()
    assert all(swept.by_class.values()), swept.by_class


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_a_thousand_random_kills() -> None:
    outcome = random_kills(1_000, seed=2)
    assert outcome.account.clean, outcome.as_dict()
