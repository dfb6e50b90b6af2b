"""Append, lose power anywhere, recover: compared with a plain list."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftactors.core.types import Entry, HardState
from raftactors.storage import MemoryFiles, PowerCut, Verdict, WalBatch, open_data_dir

FOLDER = Path("/node/1")
STATES_A_RUN = 12


class Model:
    """The log as a list. `apply` returns the next model and leaves this one as it is."""

    def __init__(self, entries: tuple[Entry, ...] = (), hard_state: HardState = HardState()) -> None:  # noqa: B008
        self.entries = entries
        self.hard_state = hard_state

    def apply(self, batch: WalBatch) -> Model:
        entries = self.entries
        if batch.entries:
            entries = entries[: batch.entries[0].index - 1] + tuple(batch.entries)
        return Model(entries, batch.hard_state or self.hard_state)

    def seen(self) -> tuple[list[Entry], HardState]:
        return list(self.entries), self.hard_state


def draw_batch(rng: Random, model: Model, term: int) -> WalBatch:
    """The next append: goes on or replaces an uncommitted suffix, now and then a hard state alone."""
    first = rng.randint(model.hard_state.commit + 1, len(model.entries) + 1)
    count = rng.choice((0, 1, 1, 2, 5, 30))
    entries = [Entry(term, first + i, rng.randbytes(rng.choice((0, 10, 100, 1_500)))) for i in range(count)]
    last = entries[-1].index if entries else len(model.entries)
    hard_state = HardState(term, rng.randrange(3), rng.randint(model.hard_state.commit, last))
    return WalBatch(hard_state if not entries or rng.random() < 0.6 else None, entries)


def run(seed: int) -> list[Verdict]:
    """Open, append and crash a few times; returns the verdicts met."""
    rng = Random(seed)
    disk, model, incarnation, verdicts = MemoryFiles(), Model(), 0, []
    next_model = model
    for term in range(1, STATES_A_RUN):
        disk.cut_power(after_calls=rng.choice((5, 20, 30, 40, 60, 90)) + rng.randrange(12))
        try:
            opened = open_data_dir(
                FOLDER, cluster_id=9, node_id=1, segment_bytes=16_384, files=disk, random_bytes=rng.randbytes
            )
            found = opened.entries, opened.hard_state
            assert found in (model.seen(), next_model.seen()), f"seed {seed}"
            model = next_model = model if found == model.seen() else next_model
            assert opened.incarnation > incarnation
            incarnation = opened.incarnation
            verdicts.append(opened.recovery.verdict)
            while True:
                batch = draw_batch(rng, model, term)
                next_model = model.apply(batch)
                opened.wal.append([batch])
                model = next_model  # Acknowledged: from here on it must be found.
        except PowerCut:
            if rng.random() < 0.2:
                disk.end_process()
            else:
                disk.crash(rng)
    return verdicts


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.integers(0, 2**32))
def test_what_was_acknowledged_is_found_after_any_crash(seed: int) -> None:
    run(seed)


def test_the_runs_meet_torn_and_clean_ends() -> None:
    verdicts = {verdict for seed in range(20) for verdict in run(seed)}
    assert verdicts == set(Verdict)


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("start", range(0, 20_000, 2_000))
def test_many_crashes(start: int) -> None:
    for seed in range(start, start + 2_000):
        run(seed)
