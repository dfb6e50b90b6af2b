"""Seeds: no promise is broken, and the same seed is the same run."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from raftactors.testing.simulation import simulate

CHUNK = 25
QUICK_SEEDS = 50
LONG_SEEDS = 1_000
NIGHTLY_SEEDS = int(os.environ.get("RAFTACTORS_SEEDS", "10000"))
PROCESSES = min(4, os.cpu_count() or 1)


def broken(seeds: range) -> list[str]:
    """What went wrong, one line a seed."""
    return [f"seed {seed}: {outcome.text}" for seed in seeds if not (outcome := simulate(seed)).ok]


def digests(seeds: range) -> list[str]:
    """The names of the runs."""
    return [simulate(seed).digest for seed in seeds]


def chunks(first: int, last: int) -> list[range]:
    """The seeds first..last in pieces."""
    return [range(start, min(start + CHUNK, last + 1)) for start in range(first, last + 1, CHUNK)]


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(seeds, marks=[] if seeds[-1] <= QUICK_SEEDS else [pytest.mark.long])
        for seeds in chunks(1, LONG_SEEDS)
    ],
    ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}",
)
def test_every_promise_is_kept(seeds: range) -> None:
    assert broken(seeds) == []


def test_a_seed_is_the_same_run_every_time() -> None:
    """Also in another process, where hashes and addresses differ."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        elsewhere = pool.submit(digests, range(1, 11))
        here = digests(range(1, 11))
        assert here == elsewhere.result()
    assert len(set(here)) == len(here)


@pytest.mark.nightly
@pytest.mark.timeout(7_200)
def test_every_promise_is_kept_in_many_seeds() -> None:
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        found = [line for lines in pool.map(broken, chunks(1, NIGHTLY_SEEDS)) for line in lines]
    assert found == []


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_hundred_seeds_are_the_same_run_every_time() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        once, again = pool.map(digests, (range(1, 101), range(1, 101)))
    assert once == again
