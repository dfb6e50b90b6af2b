"""A leader with a stalled or full disk hands over and heals by itself (RELIABILITY C5, D5)."""

from __future__ import annotations

import pytest

from raftactors.errors import ExitCode
from tests.durability.disk_trouble import everybody_full, fills, hang, pretended_fills, stalls

STALL_NOTICED_AFTER = 2
MOVES_WITHIN = 3
SLACK = 1.0
"""Election timeouts for the polling and for a busy machine."""


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("preload_shim")
def test_a_leader_whose_disk_stalls_hands_over_and_heals() -> None:
    outcome = stalls(1)
    assert outcome.clean, outcome.as_dict()
    assert outcome.moved_after[0] + SLACK >= STALL_NOTICED_AFTER
    assert max(outcome.moved_after) <= STALL_NOTICED_AFTER + MOVES_WITHIN + SLACK


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("preload_shim")
@pytest.mark.long
def test_a_leader_without_room_for_its_log_hands_over_and_heals() -> None:
    outcome = pretended_fills(1)
    assert outcome.clean, outcome.as_dict()
    assert max(outcome.moved_after) <= MOVES_WITHIN + SLACK


@pytest.mark.nightly
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("loop_disks")
def test_a_leader_whose_real_disk_is_full_hands_over_and_heals() -> None:
    outcome = fills(1)
    assert outcome.clean, outcome.as_dict()
    assert max(outcome.moved_after) <= MOVES_WITHIN + SLACK


@pytest.mark.nightly
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("preload_shim")
def test_a_cluster_without_room_anywhere_still_answers_reads() -> None:
    outcome = everybody_full()
    assert outcome.clean, outcome.as_dict()


@pytest.mark.nightly
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("preload_shim")
def test_a_node_whose_sync_never_returns_is_ended() -> None:
    assert hang() == ExitCode.ACTOR_HUNG


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("preload_shim")
def test_a_hundred_stalls() -> None:
    outcome = stalls(100)
    assert outcome.clean, outcome.as_dict()
    assert max(outcome.moved_after) <= STALL_NOTICED_AFTER + MOVES_WITHIN


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("loop_disks")
def test_two_hundred_fills() -> None:
    outcome = fills(200)
    assert outcome.clean, outcome.as_dict()
