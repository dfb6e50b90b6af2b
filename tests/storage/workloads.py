"""What the crash-state explorer and the fault injection run: each workload drives a disk through one kind of work.

Register another one with `@workload("name")`; it gets a `Recorder` and opens, appends and crashes as it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.storage import PowerCut, WalBatch

from .tape import Log, Observe, Recorder, observe

Run = Callable[[Recorder], None]

WORKLOADS: dict[str, tuple[Run, Observe]] = {}


def workload(name: str, seen: Observe = observe) -> Callable[[Run], Run]:
    """Register a workload; `seen` turns what recovery opened into something to compare with the outcomes it named."""

    def register(run: Run) -> Run:
        WORKLOADS[name] = (run, seen)
        return run

    return register


def record(name: str) -> Recorder:
    """Run a workload and return the disk with its cuts."""
    disk = Recorder(name)
    WORKLOADS[name][0](disk)
    return disk


def entries(rng: Random, first: int, count: int, term: int, sizes: tuple[int, ...]) -> list[Entry]:
    """Entries first..first+count-1 with payloads of these sizes that occur nowhere else."""
    return [Entry(term, first + i, rng.randbytes(rng.choice(sizes))) for i in range(count)]


@workload("first boot")
def first_boot(disk: Recorder) -> None:
    for _ in range(3):
        disk.open_storage().close()
    disk.freeze()


@workload("append")
def append(disk: Recorder) -> None:
    opened, log = disk.open_storage(), Log()
    for count, sizes in ((1, (10,)), (1, (100,)), (3, (60,)), (1, (1_500,)), (2, (700, 1_200)), (1, (2_300,))):
        made = entries(disk.rng, len(log.entries) + 1, count, 1, sizes)
        disk.append(opened, log, WalBatch(HardState(1, 1, len(log.entries)), made))
    disk.append(opened, log, WalBatch(HardState(2, 3, len(log.entries)), ()))
    opened.close()
    disk.freeze()


@workload("overwrite conflict")
def overwrite_conflict(disk: Recorder) -> None:
    opened, log = disk.open_storage(), Log()
    disk.append(opened, log, WalBatch(HardState(1, 1, 0), entries(disk.rng, 1, 6, 1, (50, 300))))
    for term, first in ((2, 4), (3, 2), (4, 3)):
        made = entries(disk.rng, first, 3, term, (40, 900))
        disk.append(opened, log, WalBatch(HardState(term, 1, first - 1), made))
    # A conflict inside one batch, as when two appends of the core are made durable together.
    disk.append(
        opened,
        log,
        WalBatch(None, entries(disk.rng, 5, 3, 5, (80,))),
        WalBatch(HardState(6, 2, 4), entries(disk.rng, 6, 1, 6, (80,))),
    )
    opened.close()
    disk.freeze()


@workload("rotate")
def rotate(disk: Recorder) -> None:
    opened, log = disk.open_storage(), Log()
    while opened.wal.stats.segments < 3:
        made = entries(disk.rng, len(log.entries) + 1, 1, 1, (900, 1_400, 2_000))
        disk.append(opened, log, WalBatch(HardState(1, 1, len(log.entries)), made))
    opened.close()
    disk.freeze()


@workload("batch over segments")
def batch_over_segments(disk: Recorder) -> None:
    """Batches that do not fit the rest of a segment, or any segment of the usual size."""
    opened, log = disk.open_storage(), Log()
    for size in (5_000, 4_000, 9_000, 100):
        made = entries(disk.rng, len(log.entries) + 1, 1, 1, (size,))
        disk.append(opened, log, WalBatch(HardState(1, 1, len(log.entries)), made))
    opened.close()
    disk.freeze()


@workload("append without sync")
def append_without_sync(disk: Recorder) -> None:
    """Any number of batches may go, but only from the end, and no state may be refused as damage."""
    opened, log = disk.open_storage(durability="none"), Log()
    for size in (60, 700, 90, 1_800, 300, 2_500, 40, 900, 4_000):
        made = entries(disk.rng, len(log.entries) + 1, 1, 1, (size,))
        disk.append(opened, log, WalBatch(HardState(1, 1, len(log.entries)), made))
        if size == 300:
            opened.wal.sync()
            disk.acknowledge()
    opened.close()
    disk.acknowledge()
    disk.freeze()


@workload("snapshot in the log")
def snapshot_in_the_log(disk: Recorder) -> None:
    opened, log = disk.open_storage(), Log()
    disk.append(opened, log, WalBatch(HardState(1, 1, 0), entries(disk.rng, 1, 4, 1, (200,))))
    snapshot = Snapshot(9, 2, ConfState((1, 2, 3), (), (4,)))
    disk.append(opened, log, WalBatch(HardState(2, 0, 9), (), snapshot))
    disk.append(opened, log, WalBatch(HardState(2, 0, 10), entries(disk.rng, 10, 3, 2, (500,))))
    opened.close()
    disk.freeze()


@workload("recovery")
def recovery(disk: Recorder) -> None:
    """Power cuts in the middle of appends, and in the recoveries that clean up behind them."""
    log, chance = Log(), Random(11)
    opened = disk.open_storage()
    for _ in range(6):
        for size in (300, 1_700):
            made = entries(disk.rng, len(log.entries) + 1, 2, opened.incarnation, (size,))
            disk.append(opened, log, WalBatch(HardState(opened.incarnation, 1, len(log.entries)), made))
        # A write that loses its power: some of it is there, and nobody was told.
        torn = WalBatch(None, entries(disk.rng, len(log.entries) + 1, 3, opened.incarnation, (800,)))
        log.apply(torn)
        disk.begin(log.outcome())
        disk.cut_power(after_calls=1)
        with suppress(PowerCut):
            opened.wal.append([torn])
        disk.crash(chance)
        opened = disk.open_storage()
        log.entries = list(opened.entries)
        disk.begin(log.outcome())
        disk.acknowledge()
    disk.freeze()


# Registers the workloads that build on what stands above.
from . import snapshot_workloads, witness_workloads  # noqa: E402, F401
