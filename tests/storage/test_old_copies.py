"""Any copy of a node's data, put in its place after any later kill, is refused or lacks nothing that was promised."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest

from raftactors.core.types import Entry, HardState, Snapshot
from raftactors.errors import DataLostError
from raftactors.storage import MemoryFiles, OpenedStorage, WalBatch, open_data_dir
from raftactors.storage.memory import _Directory
from raftactors.storage.record import LogEnd

from .tape import FOLDER, SEGMENT_BYTES, WITNESS, Content, Names, PlainFiles
from .workloads import entries


class Moment(NamedTuple):
    """What a kill leaves, or a copy takes, at one call: files by path, and what had been promised by then."""

    names: Names
    hard_state: HardState
    end: LogEnd
    incarnation: int


class Moments(MemoryFiles):
    """Keeps the moment before every call that changes or syncs something."""

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[Moment] = []
        self.hard_state, self.end, self.incarnation = HardState(), LogEnd(), 0

    def open_storage(self) -> OpenedStorage:
        opened = open_data_dir(
            FOLDER,
            cluster_id=9,
            node_id=1,
            segment_bytes=SEGMENT_BYTES,
            files=self,
            random_bytes=Random(1).randbytes,
            witness_path=WITNESS,
        )
        self.incarnation = opened.incarnation
        return opened

    def append(self, opened: OpenedStorage, batch: WalBatch) -> None:
        last = batch.entries[-1] if batch.entries else batch.snapshot
        end = self.end if last is None else LogEnd(last.term, last.index)
        # What a leader of a later term replaces was never committed: that promise has no weight any more.
        self.end = min(self.end, end)
        opened.wal.append([batch])
        self.end = end
        self.hard_state = batch.hard_state or self.hard_state

    def _note(self, operation: str, name: str) -> None:
        if operation not in {"pread", "drop_cache"}:
            names: Names = {}
            _list(self._root, "", names)
            self.moments.append(Moment(names, self.hard_state, self.end, self.incarnation))
        super()._note(operation, name)


def _list(directory: _Directory, path: str, names: Names) -> None:
    for name, node in directory.current.items():
        names[f"{path}/{name}"] = None if isinstance(node, _Directory) else Content(node.current)
        if isinstance(node, _Directory):
            _list(node, f"{path}/{name}", names)


def live(disk: Moments) -> None:
    """Votes, appends, conflicts that leave the log longer or shorter, a snapshot, a restart."""
    opened, rng = disk.open_storage(), Random(3)
    disk.append(opened, WalBatch(HardState(1, 2, 0), ()))
    disk.append(opened, WalBatch(None, entries(rng, 1, 6, 1, (50,))))
    disk.append(opened, WalBatch(HardState(2, 1, 0), entries(rng, 7, 2, 2, (50,))))
    disk.append(opened, WalBatch(HardState(3, 3, 2), entries(rng, 5, 2, 1, (50,))))
    disk.append(opened, WalBatch(None, entries(rng, 7, 1, 3, (50,))))
    disk.append(opened, WalBatch(HardState(4, 0, 3), entries(rng, 8, 3, 4, (50,))))
    opened.close()
    disk.end_process()
    opened = disk.open_storage()
    disk.append(opened, WalBatch(HardState(5, 0, 8), (), Snapshot(8, 3)))
    disk.append(opened, WalBatch(None, [Entry(5, 9, b"after")]))
    opened.close()
    disk.moments.append(Moment(disk.moments[-1].names, disk.hard_state, disk.end, disk.incarnation))


def open_at(data: Moment, witness: Moment) -> OpenedStorage:
    """The node started with the data of one moment and the witness of another."""
    names: Names = {}
    for source, path in ((data, "/node"), (witness, "/witness")):
        for name, content in source.names.items():
            if name.startswith(path):
                names[name] = None if content is None else Content(content.data)
    return open_data_dir(
        FOLDER,
        cluster_id=9,
        node_id=1,
        segment_bytes=SEGMENT_BYTES,
        files=PlainFiles(names),
        random_bytes=Random(2).randbytes,
        witness_path=WITNESS,
    )


@pytest.fixture(scope="module")
def moments() -> list[Moment]:
    disk = Moments()
    live(disk)
    return disk.moments


def test_a_kill_at_any_call_leaves_a_node_that_starts(moments: list[Moment]) -> None:
    for moment in moments:
        opened = open_at(moment, moment)
        assert opened.incarnation > moment.incarnation


def test_no_copy_is_accepted_that_lacks_what_was_promised_since(moments: list[Moment]) -> None:
    refused = accepted = 0
    for later, killed in enumerate(moments):
        for copy in moments[:later:3]:
            if not killed.incarnation:
                continue  # The first start was not over, so nothing was promised.
            try:
                opened = open_at(copy, killed)
            except DataLostError:
                refused += 1
                continue
            accepted += 1
            found = opened.hard_state
            last = opened.entries[-1] if opened.entries else opened.snapshot
            assert found.term >= killed.hard_state.term
            assert found.term > killed.hard_state.term or killed.hard_state.vote in {0, found.vote}
            assert LogEnd(last.term, last.index) >= killed.end
    assert refused > 1_000
    assert accepted > 50
