"""A data folder on a disk in memory, and short ways to fill it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from raftactors.core.types import Entry, HardState
from raftactors.storage import MemoryFiles, OpenedStorage, WalBatch, open_data_dir

FOLDER = Path("/node/1")
SEGMENT_BYTES = 16 * 1024

OpenLog = Callable[[], OpenedStorage]
MakeBatch = Callable[..., WalBatch]


@pytest.fixture
def disk() -> MemoryFiles:
    return MemoryFiles()


@pytest.fixture
def open_log(disk: MemoryFiles) -> OpenLog:
    """Open the folder on `disk`; salts come from a seeded generator."""
    rng = Random(7)

    def open_again() -> OpenedStorage:
        return open_data_dir(
            FOLDER, cluster_id=9, node_id=1, segment_bytes=SEGMENT_BYTES, files=disk, random_bytes=rng.randbytes
        )

    return open_again


@pytest.fixture
def batch() -> MakeBatch:
    """A batch of entries first..last of a term, with a hard state that commits what came before them."""
    numbers = itertools.count()

    def make(first: int, last: int, *, term: int = 1, data_bytes: int = 50) -> WalBatch:
        entries = [Entry(term, i, b"%d/" % next(numbers) + bytes(data_bytes)) for i in range(first, last + 1)]
        return WalBatch(HardState(term, 1, first - 1), entries)

    return make
