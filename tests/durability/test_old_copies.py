"""Old copies of a node's data are refused or lose nothing; what honest kills leave is never refused."""

from __future__ import annotations

import pytest

from tests.durability.old_copies import kill_under_load, put_copies_back


@pytest.mark.long
@pytest.mark.timeout(120)
def test_copies_are_refused_or_harmless() -> None:
    outcome = put_copies_back(8, seed=1)
    assert outcome.clean, outcome.as_dict()
    assert outcome.refused >= 4


@pytest.mark.long
@pytest.mark.timeout(120)
def test_without_a_witness_copies_lose_what_was_acknowledged() -> None:
    assert put_copies_back(12, seed=1, has_witness=False).lost > 0


@pytest.mark.long
@pytest.mark.timeout(120)
def test_nodes_killed_under_load_are_not_refused() -> None:
    outcome = kill_under_load(20, seed=1)
    assert outcome.clean, outcome.as_dict()
    assert outcome.conflicts > 0


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_hundred_copies_and_a_hundred_kills() -> None:
    copies = put_copies_back(100, seed=2)
    assert copies.clean, copies.as_dict()
    kills = kill_under_load(100, seed=2)
    assert kills.clean, kills.as_dict()
