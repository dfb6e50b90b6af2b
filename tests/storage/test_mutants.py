"""Bugs that others shipped, switched on in our code: the explorer or the damage sweep must find each.

The numbers are those of the list of known bugs in the reliability document. A search that no longer finds one has
stopped being a search. That both find nothing without a mutant is shown by test_explorer and test_damage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from raftactors.storage import WalBatch
from raftactors.storage import opening as opening_module
from raftactors.storage import record as record_module
from raftactors.storage import recovery as recovery_module
from raftactors.storage import wal as wal_module
from raftactors.storage.marks import Mark, encode_marks, mark_offsets
from raftactors.storage.memory import MemoryFiles
from raftactors.storage.record import EncodedBatch
from raftactors.storage.recovery import Recovered
from raftactors.storage.replay import Scan
from raftactors.storage.wal import Wal

from . import damage as damage_module
from .damage import sweep
from .explorer import explore
from .workloads import WORKLOADS

STATES_MAX = 6_000
EVERY = 200
UNDISTURBED = tuple(name for name in WORKLOADS if name != "recovery")
"""All but the one that loses its power while it is recorded, and so meets some of the bugs itself."""

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]


def bug_4_zeros_are_the_end_of_the_log(patch: Patch) -> None:
    """etcd's log takes a length of zero for its end, whatever stands behind."""
    patch.setattr(recovery_module, "_later_record", lambda content, scan: "")
    patch.setattr(recovery_module, "_later_mark", lambda content, scan, stop: "")


def bug_4_marks_are_not_read(patch: Patch) -> None:
    """Damage to the last batches only is then taken for a torn write."""
    patch.setattr(recovery_module, "_later_mark", lambda content, scan, stop: "")


def bug_4_one_mark_only(patch: Patch) -> None:
    """A mark in the sector of the batch itself is lost along with it."""
    whole = recovery_module._later_mark

    def near_only(content: bytes, scan: Scan, stop: int) -> str:
        return whole(content, scan, min(stop, mark_offsets(scan.stop)[0] + 1))

    patch.setattr(recovery_module, "_later_mark", near_only)


def bug_4_no_mark_outside_of_the_block(patch: Patch) -> None:
    """The loss of the last block then takes batches with all that speaks of them."""

    def within(salt: int, mark: Mark, stop: int, *, far: bool) -> bytes:
        return encode_marks(salt, mark, stop, far=False)

    patch.setattr(wal_module, "encode_marks", within)


def bug_5_the_sync_is_left_out(patch: Patch) -> None:
    """etcd #6378 in effect: a later batch reaches the disk before an earlier one."""
    patch.setattr(Wal, "_timed_sync", lambda wal: None)


def bug_5_acknowledged_before_the_sync(patch: Patch) -> None:
    """The sync of a batch happens with the append after it."""
    write = Wal._write

    def sync_then_write(wal: Wal, encoded: EncodedBatch) -> None:
        wal._files.fdatasync(wal._descriptor)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Wal, "_timed_sync", lambda wal: None)
            write(wal, encoded)

    patch.setattr(Wal, "_write", sync_then_write)


def bug_6_the_folder_is_not_synced(patch: Patch) -> None:
    """A segment lost in a power cut because its name was not durable."""
    patch.setattr(MemoryFiles, "fsync_dir", lambda files, path: None)


class _Unchecked(int):
    """An index that no commit index is found to lie behind: takes the encoder's check out of the mutants' way.

    Only that of the encoder in Python; the compiled one sees through it.
    """

    def __lt__(self, other: int) -> bool:
        return False


def _hard_state_first(patch: Patch, applies: Callable[[WalBatch], bool]) -> None:
    """Write the hard state of some batches in a batch of its own, ahead of what it commits."""
    append = Wal.append

    def split(wal: Wal, batches: Sequence[WalBatch]) -> None:
        for batch in batches:
            if batch.hard_state is None or not applies(batch):
                append(wal, [batch])
                continue
            committed = batch.hard_state._replace(commit=batch.entries[-1].index if batch.entries else 9)
            wal._end = wal._end._replace(index=_Unchecked(wal._end.index))
            append(wal, [WalBatch(committed, ())])
            append(wal, [batch._replace(hard_state=None)])

    patch.setattr(Wal, "append", split)
    patch.setattr(wal_module, "encode_batch", record_module.encode_batch)


def bug_10_the_commit_index_runs_ahead(patch: Patch) -> None:
    """PySyncObj #197: the commit index is durable before the entries, and blocks the next start."""
    _hard_state_first(patch, lambda batch: bool(batch.entries))


def bug_16_a_start_forgets_what_was_acknowledged(patch: Patch) -> None:
    """NuRaft #185: a node comes back with less than it acknowledged."""
    recover = recovery_module.recover

    def shorter(*arguments: Any, **words: Any) -> Recovered:
        recovered = recover(*arguments, **words)
        if recovered.tail.batches > 1 and recovered.log.entries:
            recovered.log.entries.pop()
        return recovered

    for module in (opening_module, damage_module):
        patch.setattr(module, "recover", shorter)


def bytes_behind_a_torn_end_stay(patch: Patch) -> None:
    """A later write that loses its end then leaves old bytes that verify, or that look like damage."""
    patch.setattr(opening_module, "perform_repairs", lambda files, repairs, incarnation: None)


def bug_18_the_commit_index_is_durable_before_the_snapshot(patch: Patch) -> None:
    """canonical/raft #199: after a crash the log ends behind what the rest says it holds, and refuses to start."""
    _hard_state_first(patch, lambda batch: batch.snapshot is not None)


def bug_18_the_segment_is_named_before_it_exists(patch: Patch) -> None:
    """SEGMENT_END is durable while the header of the next segment is not."""
    sync = MemoryFiles.fdatasync

    def lazy(files: MemoryFiles, descriptor: int) -> None:
        if not files._open[descriptor][1].endswith(".spare"):
            sync(files, descriptor)

    patch.setattr(MemoryFiles, "fdatasync", lazy)


@pytest.mark.parametrize(
    "mutant",
    [
        bug_5_the_sync_is_left_out,
        bug_5_acknowledged_before_the_sync,
        bug_6_the_folder_is_not_synced,
        bug_10_the_commit_index_runs_ahead,
        bug_16_a_start_forgets_what_was_acknowledged,
        bug_18_the_commit_index_is_durable_before_the_snapshot,
        bug_18_the_segment_is_named_before_it_exists,
        bytes_behind_a_torn_end_stay,
    ],
    ids=lambda mutant: mutant.__name__,
)
def test_the_explorer_finds(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    findings = explore(STATES_MAX, workloads=UNDISTURBED, stop_at_failure=True)
    assert findings.failures, f"not found in {findings.states} states"


@pytest.mark.parametrize(
    "mutant",
    [
        bug_4_zeros_are_the_end_of_the_log,
        bug_4_marks_are_not_read,
        bug_4_one_mark_only,
        bug_4_no_mark_outside_of_the_block,
        bug_16_a_start_forgets_what_was_acknowledged,
    ],
    ids=lambda mutant: mutant.__name__,
)
def test_the_damage_sweep_finds(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    assert sweep(every=EVERY, stop_at_failure=True).failures
