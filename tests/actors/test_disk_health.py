"""A stall is counted in ticks of the oldest append; a full disk is named first."""

from __future__ import annotations

from raftactors.actors.disk_health import DiskHealth, DiskState


def test_an_append_that_stays_too_long_is_a_stall_until_it_returns() -> None:
    health = DiskHealth(stall_ticks=20)
    health.handed_out(tick=5)
    health.handed_out(tick=24)
    assert health.state(24) is DiskState.OK
    assert health.state(25) is DiskState.STALLED
    health.finished(1)
    assert health.state(25) is DiskState.OK
    assert health.state(44) is DiskState.STALLED
    health.finished(1)
    assert health.state(1000) is DiskState.OK


def test_a_full_disk_is_named_before_the_stall_that_it_causes() -> None:
    health = DiskHealth(stall_ticks=20)
    health.handed_out(tick=0)
    health.is_full = True
    assert health.state(100) is DiskState.FULL
    health.is_full = False
    assert health.state(100) is DiskState.STALLED
