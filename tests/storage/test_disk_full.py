"""A full disk stops the log only at the end of its segment, harms nothing, and is over when there is room."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raftactors.core.types import HardState
from raftactors.errors import DiskFullError
from raftactors.storage import MemoryFiles, OpenedStorage, RealFiles, WalBatch, open_data_dir
from raftactors.storage.files import Buffer
from raftactors.storage.segment import SEGMENT_BYTES_MIN

OpenLog = Callable[[], OpenedStorage]
MakeBatch = Callable[..., WalBatch]
DEADLINE_S = 30.0


def lacks_space(opened: OpenedStorage) -> bool:
    return opened.wal.lacks_space


@pytest.mark.parametrize(("operation", "nth"), [("create", 1), ("rename", 1), ("rename", 2)])
def test_no_room_for_the_next_segment_changes_nothing(
    open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch, operation: str, nth: int
) -> None:
    opened = open_log()
    disk.fail(operation, nth=nth, error=errno.ENOSPC)
    appended: list[int] = []
    with pytest.raises(DiskFullError, match="free space"):
        for index in range(1, 100):
            opened.wal.append([batch(index, index, data_bytes=900)])
            appended.append(index)
    refused = appended[-1] + 1
    assert lacks_space(opened)
    assert opened.wal.stats.segments == 0
    # What fits in what is left of the segment goes on; the refused batch fits when there is room again.
    opened.wal.append([WalBatch(HardState(7, 2, 1), [])])
    opened.wal.append([batch(refused, refused, term=7, data_bytes=900)])
    assert not lacks_space(opened)
    assert opened.wal.stats.segments == 1
    disk.end_process()
    again = open_log()
    assert [entry.index for entry in again.entries] == [*appended, refused]
    assert again.hard_state.term == 7


def test_a_refused_batch_leaves_nothing_behind(open_log: OpenLog, disk: MemoryFiles, batch: MakeBatch) -> None:
    opened = open_log()
    disk.fail("create", nth=1, error=errno.ENOSPC)
    index = 0
    with pytest.raises(DiskFullError):
        while index < 100:
            index += 1
            opened.wal.append([batch(index, index, data_bytes=900)])
    disk.end_process()
    again = open_log()
    assert [entry.index for entry in again.entries] == list(range(1, index))


class SmallDisk(RealFiles):
    """A real folder on a disk that takes new segments only while it has room."""

    def __init__(self) -> None:
        super().__init__()
        self.has_room = True
        self.refusals = threading.Semaphore(0)

    def pwrite(self, descriptor: int, content: Buffer, offset: int) -> None:
        if not self.has_room and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".spare.tmp"):
            self.refusals.release()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().pwrite(descriptor, content, offset)


def test_the_lack_is_noticed_at_half_a_segment_and_terms_stay_writable(tmp_path: Path, batch: MakeBatch) -> None:
    disk = SmallDisk()
    opened = open_data_dir(tmp_path / "data", cluster_id=1, node_id=1, segment_bytes=8 * SEGMENT_BYTES_MIN, files=disk)
    disk.has_room = False
    index = 0
    while not disk.refusals.acquire(blocking=False):
        index += 1
        assert index < 100
        opened.wal.append([batch(index, index, data_bytes=900)])
    _until(lambda: lacks_space(opened))
    for term in range(2, 50):
        opened.wal.append([WalBatch(HardState(term, 1, 0), [])])
    assert opened.wal.stats.segments == 0
    assert not (tmp_path / "data" / "wal" / "next.spare.tmp").exists()
    opened.wal.seek_space()
    assert disk.refusals.acquire(timeout=DEADLINE_S)
    disk.has_room = True
    _until(lambda: "wal-preallocation" not in {thread.name for thread in threading.enumerate()})
    opened.wal.seek_space()
    _until(lambda: not lacks_space(opened))
    opened.close()


def _until(holds: Callable[[], bool]) -> None:
    tried = threading.Event()
    for _ in range(int(DEADLINE_S / 0.01)):
        if holds():
            return
        tried.wait(0.01)
    raise AssertionError("it never came to be")
