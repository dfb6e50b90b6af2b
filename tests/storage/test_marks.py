"""Marks behind the last batch: where they lie, when the far one is due, and what damage they tell from a torn write."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

import pytest

from raftactors.core.types import Entry, HardState
from raftactors.storage import MemoryFiles, WalBatch, open_data_dir
from raftactors.storage.blocks import BLOCK_BYTES, SECTOR_BYTES
from raftactors.storage.encoding import encode_marks
from raftactors.storage.marks import MARK_BYTES, FarMarks, Mark, decode_mark, mark_offsets, marks_stop

from .damage import WAL, DamagedFiles, judge
from .tape import FOLDER, SEGMENT_BYTES, Log

SALT = 77
MARK = Mark(5, 2, 9)


def places_of_marks(content: bytes, stop: int) -> list[int]:
    """Where marks lie in bytes that begin at `stop`."""
    sectors = range(-stop % SECTOR_BYTES, len(content), SECTOR_BYTES)
    return [stop + place for place in sectors if decode_mark(content, place, SALT) is not None]


@pytest.mark.parametrize("far", [True, False])
def test_marks_lie_in_sectors_of_their_own_up_to_the_end_of_a_block(far: bool) -> None:
    for stop in range(BLOCK_BYTES, 2 * BLOCK_BYTES + 1, 8):
        content = encode_marks(SALT, MARK, stop, far=far)
        near, edge, beyond = mark_offsets(stop)
        assert stop <= near < stop + SECTOR_BYTES
        assert near < edge < near + BLOCK_BYTES
        assert beyond // BLOCK_BYTES == stop // BLOCK_BYTES + 1
        places = places_of_marks(content, stop)
        assert places == sorted({near, edge, beyond} if far else {near, edge})
        assert (stop + len(content)) % BLOCK_BYTES == 0
        assert stop + len(content) <= marks_stop(stop)
        rest = bytearray(content)
        for place in places:
            rest[place - stop : place - stop + MARK_BYTES] = bytes(MARK_BYTES)
        assert not any(rest)


def test_most_batches_are_written_to_one_block_along_with_their_marks() -> None:
    starts = range(8_192, 12_288, 8)
    alone = [start for start in starts if start + len(encode_marks(SALT, MARK, start, far=False)) == 12_288]
    assert len(alone) / len(starts) > 0.7


@pytest.mark.parametrize("damage", [0, 4, 12, 20, 28])
def test_a_changed_mark_and_one_of_another_segment_are_none(damage: int) -> None:
    content = bytearray(encode_marks(SALT, MARK, BLOCK_BYTES, far=False))
    assert decode_mark(bytes(content), 0, SALT) == MARK
    assert decode_mark(bytes(content), 0, SALT + 1) is None
    content[damage] ^= 1
    assert decode_mark(bytes(content), 0, SALT) is None
    assert decode_mark(bytes(content[: MARK_BYTES - 1]), 0, SALT) is None


def test_the_far_mark_comes_once_a_block_and_tells_of_a_batch_in_it() -> None:
    far_marks, start, found = FarMarks(), BLOCK_BYTES, []
    for number in range(1, 60):
        if far_marks.is_due(number - 1, start, number, start + 264):
            found.append((mark_offsets(start + 264)[2] // BLOCK_BYTES, number - 1))
        start += 264
    first_far = dict(reversed(found))
    for block, number in first_far.items():
        # The batch that is told of ends in the block before the mark or behind it.
        assert BLOCK_BYTES + 264 * number > (block - 1) * BLOCK_BYTES
    assert set(first_far) == set(range(2, max(first_far) + 1))


def test_a_batch_that_leaves_its_block_needs_no_far_mark() -> None:
    far_marks, start = FarMarks(), BLOCK_BYTES
    for number in range(1, 200):
        stop = start + 4_104
        assert not far_marks.is_due(number - 1, start, number, stop)
        assert mark_offsets(stop)[0] // BLOCK_BYTES > start // BLOCK_BYTES
        start = stop


def test_the_far_mark_waits_for_a_batch_of_the_block_to_be_durable() -> None:
    far_marks, found = FarMarks(), []
    for number, durable in ((1, 0), (2, 0), (3, 0), (4, 2), (5, 4)):
        start = BLOCK_BYTES + 100 * (number - 1)
        found.append(far_marks.is_due(durable, start, number, start + 100))
    assert found == [False, False, False, True, False]


def logs_cut_behind_each_append() -> Iterator[tuple[dict[str, bytes], Log, Log, int]]:
    """A log that nobody closes, after each append: its bytes, what it holds, that without the last batch, its end."""
    disk, log, least, rng = MemoryFiles(), Log(), Log(), Random(4)
    opened = open_data_dir(
        FOLDER, cluster_id=9, node_id=1, segment_bytes=SEGMENT_BYTES, files=disk, random_bytes=rng.randbytes
    )
    while not opened.wal.stats.segments:
        index = len(log.entries) + 1
        least.entries, least.hard_state = list(log.entries), log.hard_state
        batch = WalBatch(HardState(1, 1, index - 1), [Entry(1, index, rng.randbytes(rng.choice((0, 60, 100, 900))))])
        log.apply(batch)
        opened.wal.append([batch])
        names = [name for name in disk.listdir(WAL) if name.endswith(".wal")]
        yield {name: disk.content(WAL / name) for name in names}, log, least, opened.wal._place.offset


def damaged_at_the_end(content: bytes, stop: int) -> Iterator[bytes]:
    """Every lost block, lost sector and pair of exchanged or lost sectors in the last two blocks and the one behind."""
    first = max(0, stop // BLOCK_BYTES - 1) * BLOCK_BYTES
    for block in range(first, min(len(content), first + 3 * BLOCK_BYTES), BLOCK_BYTES):
        yield content[:block] + bytes(BLOCK_BYTES) + content[block + BLOCK_BYTES :]
    sectors = range(first, min(len(content), first + 3 * BLOCK_BYTES), SECTOR_BYTES)
    for a, b in itertools.combinations_with_replacement(sectors, 2):
        one, other = content[a : a + SECTOR_BYTES], content[b : b + SECTOR_BYTES]
        if not any(one) and not any(other):
            continue
        for first_bytes, second_bytes in ((other, one), (bytes(SECTOR_BYTES), bytes(SECTOR_BYTES))):
            yield content[:a] + first_bytes + content[a + SECTOR_BYTES : b] + second_bytes + content[b + SECTOR_BYTES :]


def test_no_small_damage_to_the_end_of_a_log_takes_more_than_the_last_batch() -> None:
    files, outcomes = DamagedFiles(), dict.fromkeys(("refused", "whole", "cut off"), 0)
    for contents, log, least, stop in logs_cut_behind_each_append():
        name = max(contents)
        for damaged in damaged_at_the_end(contents[name], stop):
            if damaged == contents[name]:
                continue
            files.contents = contents | {name: damaged}
            outcome, complaint = judge(files, log, least)
            assert not complaint, f"{complaint} (the log ends at offset {stop})"
            outcomes[outcome] += 1
    assert min(outcomes.values()) > 100, outcomes
