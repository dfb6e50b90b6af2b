"""Progress of one member: states, fall-backs, flow control (feature row A14)."""

from __future__ import annotations

import pytest

from raftactors.core.inflights import Inflights
from raftactors.core.progress import Progress, ProgressState


def _progress(match: int, following: int, state: ProgressState = ProgressState.PROBE, window: int = 256) -> Progress:
    progress = Progress(match=match, next=following, inflights=Inflights(window))
    progress.state = state
    return progress


def test_probing_pauses_after_one_append_with_entries() -> None:
    progress = _progress(0, 1)
    progress.record_append(0, 0)
    assert not progress.is_paused()
    progress.record_append(2, 20)
    assert progress.is_paused()
    assert (progress.next, progress.inflights.count) == (1, 0)


def test_replicating_is_optimistic_until_the_window_is_full() -> None:
    progress = _progress(3, 4, ProgressState.REPLICATE, window=2)
    progress.record_append(2, 20)
    assert (progress.next, progress.is_paused()) == (6, False)
    progress.record_append(1, 10)
    assert (progress.next, progress.is_paused()) == (7, True)
    assert progress.inflights.bytes == 30


def test_snapshot_pauses_and_falls_back_behind_it() -> None:
    progress = _progress(1, 5)
    progress.enter_snapshot(8)
    assert progress.is_paused()
    assert (progress.next, progress.pending_snapshot, progress.sent_commit) == (9, 8, 8)
    progress.enter_probe()
    assert (progress.next, progress.pending_snapshot) == (9, 0)


def test_a_failed_snapshot_falls_back_to_the_match() -> None:
    progress = _progress(1, 5)
    progress.enter_snapshot(8)
    progress.pending_snapshot = 0
    progress.enter_probe()
    assert (progress.next, progress.sent_commit) == (2, 1)


def test_changing_the_state_empties_the_window() -> None:
    progress = _progress(3, 4, ProgressState.REPLICATE)
    progress.record_append(2, 20)
    progress.enter_probe()
    assert (progress.next, progress.inflights.count, progress.flow_paused) == (4, 0, False)
    progress.enter_replicate()
    assert progress.next == 4


@pytest.mark.parametrize(
    ("index", "advanced", "match", "following"), [(2, False, 3, 5), (3, False, 3, 5), (4, True, 4, 5), (9, True, 9, 10)]
)
def test_acknowledgements_only_move_forward(index: int, advanced: bool, match: int, following: int) -> None:
    progress = _progress(3, 5)
    progress.flow_paused = True
    assert progress.advance_match(index) is advanced
    assert (progress.match, progress.next, progress.flow_paused) == (match, following, not advanced)


@pytest.mark.parametrize(
    ("state", "match", "following", "rejected", "hint", "accepted", "then"),
    [
        (ProgressState.REPLICATE, 5, 10, 5, 5, False, 10),
        (ProgressState.REPLICATE, 5, 10, 4, 4, False, 10),
        (ProgressState.REPLICATE, 5, 10, 9, 9, True, 6),
        (ProgressState.PROBE, 0, 10, 8, 8, False, 10),
        (ProgressState.PROBE, 0, 10, 9, 9, True, 9),
        (ProgressState.PROBE, 0, 10, 9, 2, True, 3),
        (ProgressState.PROBE, 0, 1, 0, 0, True, 1),
        (ProgressState.PROBE, 4, 10, 9, 1, True, 5),
    ],
)
def test_rejections(
    state: ProgressState, match: int, following: int, rejected: int, hint: int, accepted: bool, then: int
) -> None:
    progress = _progress(match, following, state)
    progress.sent_commit = following
    assert progress.reject(rejected, hint) is accepted
    assert progress.next == then
    assert progress.sent_commit == (then - 1 if accepted else following)


def test_commit_is_worth_sending_only_within_what_was_sent() -> None:
    progress = _progress(3, 6)
    progress.sent_commit = 3
    assert progress.can_raise_commit(4)
    assert not progress.can_raise_commit(3)
    progress.sent_commit = 5
    assert not progress.can_raise_commit(9)


def test_a_copy_is_equal_and_independent() -> None:
    progress = _progress(3, 4, ProgressState.REPLICATE)
    progress.record_append(1, 10)
    twin = progress.copy()
    progress.enter_probe()
    assert (twin.match, twin.next, twin.state, twin.inflights.count) == (3, 5, ProgressState.REPLICATE, 1)
