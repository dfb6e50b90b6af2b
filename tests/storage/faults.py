"""The recorded workloads on a disk that refuses: every sync, write and read in turn."""

from __future__ import annotations

import errno
import os
from collections.abc import Hashable
from typing import NamedTuple

from raftactors.errors import ExitCode, StorageError
from raftactors.storage import SimulatedExit

from .tape import Recorder
from .workloads import WORKLOADS

SYNCS = {"fsync", "fdatasync", "fsync_dir"}
WRITES = {"create", "pwrite", "rename", "mkdir"}


class Outcome(NamedTuple):
    """How a run ended. `allowed` may be found at the restart; `calls` were made after the one that failed."""

    ended: BaseException | None
    failed: tuple[str, str]
    allowed: tuple[Hashable, ...]
    calls: list[tuple[str, str]]


class FaultyDisk(Recorder):
    """Lets the nth call of some kinds fail. It records no cuts: only the books of what may be found are kept."""

    def __init__(self, workload: str, kinds: set[str], nth: int, error: int) -> None:
        super().__init__(workload)
        self._kinds = kinds
        self._left = nth
        self._error = error
        self._after: int | None = None
        self.matching = 0

    def freeze(self) -> None:
        """Nothing: the disk is looked at after the run."""

    def _note(self, operation: str, name: str) -> None:
        super()._note(operation, name)
        if operation not in self._kinds:
            return
        self.matching += 1
        if self.matching == self._left:
            self._after = len(self.calls)
            raise OSError(self._error, os.strerror(self._error), name)

    @property
    def failed(self) -> tuple[str, str]:
        """The call that failed."""
        return ("", "") if self._after is None else self.calls[self._after - 1]

    @property
    def calls_after(self) -> list[tuple[str, str]]:
        """What was asked of the disk after the call that failed."""
        return [] if self._after is None else self.calls[self._after :]

    @property
    def allowed(self) -> tuple[Hashable, ...]:
        """What a restart may find."""
        return tuple(self._allowed)


def run_with_fault(workload: str, kinds: set[str], nth: int, error: int) -> tuple[FaultyDisk, Outcome]:
    """Run a workload whose nth call of `kinds` fails; nth 0 counts the calls and fails none."""
    disk = FaultyDisk(workload, kinds, nth, error)
    ended: BaseException | None = None
    try:
        WORKLOADS[workload][0](disk)
    except (StorageError, SimulatedExit) as stopped:
        ended = stopped
    return disk, Outcome(ended, disk.failed, disk.allowed, disk.calls_after)


def complaint_about_restart(disk: FaultyDisk, workload: str, allowed: tuple[Hashable, ...]) -> str:
    """What is wrong with what the next start finds on the disk; "" if nothing is."""
    disk.end_process()
    disk.cut_power(after_calls=-1)
    found = WORKLOADS[workload][1](disk.open_storage())
    return "" if found in allowed else f"{workload}: found {found} where {len(allowed)} other outcomes were allowed"


def is_sync_exit(ended: BaseException | None) -> bool:
    """Whether a run ended by the exit for a failed sync."""
    return isinstance(ended, SimulatedExit) and ended.code == ExitCode.SYNC_FAILED


def is_full_disk(ended: BaseException | None) -> bool:
    """Whether a run ended with the error of a full disk."""
    return isinstance(ended, StorageError) and os.strerror(errno.ENOSPC) in str(ended)
