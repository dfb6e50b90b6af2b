"""Joining client frames into entries, and queries into read rounds."""

from __future__ import annotations

from raftactors.actors.messages import ClientFrame
from raftactors.actors.proposals import PendingReads, combine
from raftactors.codec.batch import decode_batch


def frame(pending_id: int, size: int) -> ClientFrame:
    return ClientFrame(pending_id, bytes((3,)) + bytes(size - 1))


def test_frames_that_fit_become_one_entry_in_their_order() -> None:
    ((payload, pending_ids),) = combine(
        [frame(5, 10), frame(2, 20), frame(9, 30)], bytes_max=60, origin_node=3, origin_incarnation=4, now_ms=77
    )
    assert pending_ids == [5, 2, 9]
    batch = decode_batch(payload)
    assert (batch.origin_node, batch.origin_incarnation, batch.timestamp_ms) == (3, 4, 77)
    assert [pending_id for pending_id, _, _ in batch.frames] == [5, 2, 9]


def test_an_entry_is_closed_before_it_exceeds_its_limit() -> None:
    payloads = combine(
        [frame(1, 40), frame(2, 40), frame(3, 20), frame(4, 90)],
        bytes_max=60,
        origin_node=1,
        origin_incarnation=1,
        now_ms=0,
    )
    assert [pending_ids for _, pending_ids in payloads] == [[1], [2, 3], [4]]


def test_no_frames_make_no_entry() -> None:
    assert combine([], bytes_max=60, origin_node=1, origin_incarnation=1, now_ms=0) == []


def test_contexts_differ_between_rounds_nodes_and_restarts() -> None:
    contexts = [PendingReads(node_id, incarnation).begin([], 0) for node_id in (1, 2) for incarnation in (1, 2)]
    reads = PendingReads(1, 1)
    contexts += [reads.begin([], 0), reads.begin([], 0)]
    assert len(set(contexts)) == 5  # The first round of (1, 1) was begun twice, by two registers of the same node.


def test_a_round_is_confirmed_once() -> None:
    reads = PendingReads(1, 1)
    context = reads.begin([frame(1, 10)], 0)
    assert reads.confirm(context) == [frame(1, 10)]
    assert reads.confirm(context) == []


def test_old_rounds_are_given_up_and_cannot_be_confirmed_later() -> None:
    reads = PendingReads(1, 1)
    old, new = reads.begin([frame(1, 10), frame(2, 10)], 3), reads.begin([frame(3, 10)], 9)
    assert reads.give_up(before_tick=9) == [1, 2]
    assert reads.confirm(old) == []
    assert reads.confirm(new) == [frame(3, 10)]
