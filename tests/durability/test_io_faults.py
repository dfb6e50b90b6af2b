"""Failing syncs, full disks, short writes, interrupted calls, one at a time, on real processes (RELIABILITY D4, D5)."""

from __future__ import annotations

import pytest

from tests.durability.io_faults import (
    KINDS,
    half_then_no_space,
    interrupted_name,
    interrupted_sync,
    interrupted_write,
    no_name,
    run,
    short_write,
    sync_fails,
)

pytestmark = pytest.mark.usefixtures("preload_shim")

SAMPLE = [
    sync_fails(3),
    sync_fails(12),
    half_then_no_space(8),
    short_write(7),
    no_name(3),
    interrupted_write(9),
    interrupted_sync(6),
    interrupted_name(2),
]


@pytest.mark.timeout(120)
def test_a_sync_that_fails_and_a_write_that_comes_short() -> None:
    outcome = run([sync_fails(3), short_write(7)])
    assert outcome.clean, outcome.as_dict()
    assert outcome.ends["sync fails: SYNC_FAILED"] == 1


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_sample_of_faults() -> None:
    outcome = run(SAMPLE)
    assert outcome.clean, outcome.as_dict()
    assert outcome.ends["sync fails: SYNC_FAILED"] == 2
    assert outcome.oracle.acknowledgements > 0


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_sample_of_faults_while_snapshots_are_taken() -> None:
    outcome = run([no_name(17), no_name(24), half_then_no_space(31), sync_fails(31)], snapshots=True)
    assert outcome.clean, outcome.as_dict()
    assert outcome.ends["no room for a name: goes on"] == 2


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("snapshots", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_each_of_the_first_hundred_calls(kind: object, snapshots: bool) -> None:
    assert callable(kind)
    outcome = run((kind(at) for at in range(1, 101)), snapshots=snapshots)
    assert outcome.clean, outcome.as_dict()
