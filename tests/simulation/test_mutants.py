"""A simulator that cannot fail proves nothing: each known bug, planted, has to be noticed."""

from __future__ import annotations

import pytest

from tests.conformance.shared_files import ABSENT_REASON, TRACES
from tests.simulation.catching import catch, known_seeds, use_disk
from tests.simulation.mutant import CaughtBy
from tests.simulation.mutants import MUTANTS

FALLBACK_SEEDS = range(1, 61)
"""What is run when none of the known seeds catches a mutant any more, because the code under it has changed."""

SEARCH_SEEDS_MAX = 1_000
BY_SEEDS = [name for name, mutant in MUTANTS.items() if mutant.caught_by is not CaughtBy.TRACES]
BY_TRACES = [name for name, mutant in MUTANTS.items() if mutant.caught_by is CaughtBy.TRACES]


@pytest.mark.parametrize("name", BY_SEEDS)
def test_the_simulator_notices(name: str) -> None:
    assert catch(MUTANTS[name], [*known_seeds()[name], *FALLBACK_SEEDS]) is not None, MUTANTS[name].story


@pytest.mark.skipif(not TRACES.is_dir(), reason=ABSENT_REASON)
@pytest.mark.parametrize("name", BY_TRACES)
def test_a_golden_trace_notices(name: str) -> None:
    assert catch(MUTANTS[name], ()) is not None, MUTANTS[name].story


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", BY_SEEDS)
def test_the_simulator_notices_within_a_thousand_seeds(name: str) -> None:
    assert catch(MUTANTS[name], range(1, SEARCH_SEEDS_MAX + 1)) is not None, MUTANTS[name].story


def test_a_disk_without_a_bug_comes_back_right() -> None:
    for seed in range(1, 101):
        use_disk(seed)


def test_there_are_enough_mutants_and_each_has_a_seed() -> None:
    assert len(MUTANTS) >= 24
    assert set(known_seeds()) == set(BY_SEEDS)
    assert all(known_seeds().values())
