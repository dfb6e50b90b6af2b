"""What does the write-ahead log cost beside the sync of the disk, and how long does recovery take?

Compares the rate of plain pwrite + fdatasync on a pre-zeroed file with `Wal.append` at 1, 16 and 256 entries a batch,
gives the processor time of one append without the disk, and the time to recover a log.

    python bench/wal.py --folder /path/on/the/disk [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measurement import environment
from rich.console import Console
from rich.table import Table

from raftactors.core.types import Entry, HardState
from raftactors.storage import OpenedStorage, RealFiles, WalBatch, open_data_dir
from raftactors.storage.files import Buffer

MIB = 1024 * 1024


class NoDisk(RealFiles):
    """Real files whose writes and syncs do nothing once `active`: what is left is the cost of the log itself."""

    concurrent = False
    active = False

    def pwrite(self, descriptor: int, content: Buffer, offset: int) -> None:
        if not self.active:
            super().pwrite(descriptor, content, offset)

    def fdatasync(self, descriptor: int) -> None:
        if not self.active:
            super().fdatasync(descriptor)


def open_log(folder: Path, segment_bytes: int, files: RealFiles | None = None) -> OpenedStorage:
    return open_data_dir(folder, cluster_id=1, node_id=1, segment_bytes=segment_bytes, files=files)


def disk_rate(folder: Path, write_bytes: int, seconds: float) -> tuple[float, float]:
    """Writes a second and median microseconds of one pwrite + fdatasync on a file written with zeros before."""
    content, durations, offset = os.urandom(write_bytes), [], 0
    descriptor = os.open(folder / "raw", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for start in range(0, 64 * MIB, MIB):
            os.pwrite(descriptor, bytes(MIB), start)
        os.fsync(descriptor)
        stop = time.perf_counter() + seconds
        while (started := time.perf_counter()) < stop:
            os.pwrite(descriptor, content, offset)
            os.fdatasync(descriptor)
            durations.append(time.perf_counter() - started)
            offset = (offset + write_bytes) % (64 * MIB - write_bytes)
    finally:
        os.close(descriptor)
        os.unlink(folder / "raw")
    return len(durations) / seconds, sorted(durations)[len(durations) // 2] * 1e6


def appender(opened: OpenedStorage, entries: int, entry_bytes: int) -> Callable[[], None]:
    """A call that appends one batch with a hard state; the entries are made once, so that only the log is measured."""
    batch = [WalBatch(HardState(1, 1, 0), [Entry(1, i, bytes(entry_bytes)) for i in range(1, entries + 1)])]
    append = opened.wal.append
    return lambda: append(batch)


def log_rate(folder: Path, entries: int, entry_bytes: int, seconds: float) -> tuple[float, float]:
    """Batches a second and median microseconds of one append."""
    opened = open_log(folder, 64 * MIB)
    durations = []
    try:
        append = appender(opened, entries, entry_bytes)
        stop = time.perf_counter() + seconds
        while (started := time.perf_counter()) < stop:
            append()
            durations.append(time.perf_counter() - started)
    finally:
        opened.close()
    return len(durations) / seconds, sorted(durations)[len(durations) // 2] * 1e6


def log_cpu_us(folder: Path, entries: int, entry_bytes: int) -> float:
    """Processor microseconds of one append without the disk: the least of 9 rounds."""
    files = NoDisk()
    opened = open_log(folder, 1024 * MIB, files)
    files.active = True
    append = appender(opened, entries, entry_bytes)
    rounds, count = [], max(20, 2_000 // entries)
    for _ in range(9):
        started = time.process_time()
        for _ in range(count):
            append()
        rounds.append((time.process_time() - started) / count * 1e6)
    files.active = False
    opened.close()
    return min(rounds)


def recovery(folder: Path, entries_a_batch: int, entry_bytes: int) -> dict[str, float]:
    """Seconds to open a log of 64 MiB of batches, and what it held."""
    opened = open_log(folder, 64 * MIB)
    index = 1
    while opened.wal.stats.bytes < 60 * MIB:
        entries = [Entry(1, i, bytes(entry_bytes)) for i in range(index, index + entries_a_batch)]
        opened.wal.append([WalBatch(HardState(1, 1, index - 1), entries)])
        index += entries_a_batch
    opened.close()
    started = time.perf_counter()
    again = open_log(folder, 64 * MIB)
    seconds = time.perf_counter() - started
    found = {"seconds": seconds, "entries": len(again.entries), "batches": again.recovery.batches}
    again.close()
    return found


def measure(folder: Path, seconds: float, entry_bytes: int) -> dict[str, object]:
    """All figures, each in a folder of its own."""
    rows = []
    for entries in (1, 16, 256):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            here = Path(name)
            written = 232 + entries * ((entry_bytes + 24 + 31) & ~7)
            raw_rate, raw_us = disk_rate(here, written, seconds)
            rate, append_us = log_rate(here / "rate", entries, entry_bytes, seconds)
            cpu_us = log_cpu_us(here / "cpu", entries, entry_bytes)
        rows.append(
            {
                "entries": entries, "raw_per_s": raw_rate, "raw_p50_us": raw_us, "append_per_s": rate,
                "append_p50_us": append_us, "cpu_us": cpu_us,
            }
        )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as name:
        large_us = log_cpu_us(Path(name) / "large", 1, 65_536)
        recoveries = [
            {"entries_a_batch": entries, "entry_bytes": size} | recovery(Path(name) / f"{entries}", entries, size)
            for entries, size in ((256, entry_bytes), (16, 4_096))
        ]
    parameters: dict[str, object] = {
        "entry_bytes": entry_bytes,
        "seconds": seconds,
        "folder": str(folder),
    } | environment(folder)
    return {"parameters": parameters, "appends": rows, "cpu_us_64kib": large_us, "recoveries": recoveries}


def show(console: Console, found: dict[str, object]) -> None:
    """The figures as tables."""
    console.print(f"parameters: {found['parameters']}")
    table = Table(title="append beside a plain pwrite + fdatasync of the same size")
    appends, recoveries = found["appends"], found["recoveries"]
    assert isinstance(appends, list)
    assert isinstance(recoveries, list)
    headings = ("entries", "raw /s", "raw p50 us", "append /s", "append p50 us", "CPU us a batch")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in appends:
        table.add_row(*(f"{value:,.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    console.print(f"CPU of one append of a 64 KiB entry: {found['cpu_us_64kib']:.1f} us")
    for row in recoveries:
        console.print(
            f"recovery of 60 MiB, {row['entries']:,} entries of {row['entry_bytes']} bytes, "
            f"{row['batches']:,} batches: {row['seconds']:.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="a folder on the disk to measure"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each rate is measured")
    parser.add_argument("--entry-bytes", type=int, default=100, help="payload of one entry")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    arguments = parser.parse_args()
    found = measure(arguments.folder, arguments.seconds, arguments.entry_bytes)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(Console(), found)


if __name__ == "__main__":
    main()
