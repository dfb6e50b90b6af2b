"""What does the write-ahead log cost beside the sync of the disk, and how long does recovery take?

Takes turns between plain pwrite + fdatasync on a pre-zeroed file and `Wal.append` of the same size, from one entry to
eight megabytes a batch; gives the processor time of one append without the disk, and the time and memory to recover
logs of 64 MiB and 1 GiB.

    python bench/wal.py --folder /path/on/the/disk [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from measurement import environment, median
from rich import box
from rich.console import Console
from rich.table import Table

from raftactors.core.types import Entry, HardState
from raftactors.storage import OpenedStorage, RealFiles, WalBatch, encoding, open_data_dir
from raftactors.storage.files import Buffer

MIB = 1024 * 1024
SEGMENT_BYTES = 64 * MIB


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


class RawDisk:
    """Plain pwrite + fdatasync on a file written with zeros before: the most that any log can do on this disk."""

    def __init__(self, folder: Path, write_bytes: int) -> None:
        self._content = os.urandom(write_bytes)
        self._length = max(64 * MIB, 4 * write_bytes)
        self._offset = 0
        self._descriptor = os.open(folder / "raw", os.O_RDWR | os.O_CREAT, 0o600)
        for start in range(0, self._length, MIB):
            os.pwrite(self._descriptor, bytes(MIB), start)
        os.fsync(self._descriptor)

    def write(self) -> None:
        """One write, durable."""
        os.pwrite(self._descriptor, self._content, self._offset)
        os.fdatasync(self._descriptor)
        self._offset += len(self._content)
        if self._offset + len(self._content) > self._length:
            self._offset = 0

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)


def appender(opened: OpenedStorage, entries: int, entry_bytes: int) -> Callable[[], None]:
    """A call that appends one batch with a hard state; the entries are made once, so that only the log is measured."""
    batch = [WalBatch(HardState(1, 1, 0), [Entry(1, i, bytes(entry_bytes)) for i in range(1, entries + 1)])]
    append = opened.wal.append
    return lambda: append(batch)


def batch_bytes(entries: int, entry_bytes: int) -> int:
    """What such a batch takes in the log: entry records, the hard state and BATCH_END."""
    return entries * ((entry_bytes + 24 + 31) & ~7) + 48 + 64


def interleaved(folder: Path, entries: int, entry_bytes: int, rounds: int, calls: int) -> dict[str, float | int]:
    """Raw writes and appends of the same size in turns, so that both meet the same disk; medians over all calls.

    `ratio` is the median over the rounds of the rate of appends to that of raw writes.
    """
    raw = RawDisk(folder, batch_bytes(entries, entry_bytes))
    opened = open_log(folder / "log", SEGMENT_BYTES)
    append = appender(opened, entries, entry_bytes)
    durations: tuple[list[float], list[float]] = ([], [])
    ratios = []
    for call in (raw.write, append):
        for _ in range(20):
            call()
    for _ in range(rounds):
        spent = []
        for call, found in ((raw.write, durations[0]), (append, durations[1])):
            began = time.perf_counter()
            for _ in range(calls):
                started = time.perf_counter()
                call()
                found.append(time.perf_counter() - started)
            spent.append(time.perf_counter() - began)
        ratios.append(spent[0] / spent[1])
    segments = opened.wal.stats.segments
    opened.close()
    raw.close()
    raw_us, append_us = (median(found) * 1e6 for found in durations)
    size = batch_bytes(entries, entry_bytes)
    return {
        "entries": entries, "bytes": size, "raw_p50_us": raw_us, "append_p50_us": append_us,
        "raw_mb_per_s": size * len(durations[0]) / sum(durations[0]) / 1e6,
        "append_mb_per_s": size * len(durations[1]) / sum(durations[1]) / 1e6,
        "ratio_p50": raw_us / append_us, "ratio": median(ratios), "rotations": segments,
        "cpu_us": log_cpu_us(folder / "cpu", entries, entry_bytes),
    }  # fmt: skip


def log_cpu_us(folder: Path, entries: int, entry_bytes: int) -> float:
    """Processor microseconds of one append without the disk: the least of 9 rounds."""
    files = NoDisk()
    opened = open_log(folder, 1024 * MIB, files)
    files.active = True
    append = appender(opened, entries, entry_bytes)
    rounds, count = [], max(20, min(2_000 // entries, 1024 * MIB // 12 // batch_bytes(entries, entry_bytes)))
    for _ in range(9):
        started = time.process_time()
        for _ in range(count):
            append()
        rounds.append((time.process_time() - started) / count * 1e6)
    files.active = False
    opened.close()
    return min(rounds)


def fill(folder: Path, mib: int, entry_bytes: int) -> None:
    """A closed log of that size, in segments of the usual size and batches of a quarter of a megabyte."""
    opened = open_log(folder, SEGMENT_BYTES)
    index, count = 1, max(1, 256 * 1024 // (entry_bytes + 52))
    while opened.wal.stats.bytes < mib * MIB * 0.98:
        entries = [Entry(1, i, bytes(entry_bytes)) for i in range(index, index + count)]
        opened.wal.append([WalBatch(HardState(1, 1, index - 1), entries)])
        index += count
    opened.close()


def peak_memory_bytes() -> int:
    """The most this process has held since it began; what getrusage tells begins with the memory of its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def recover_here(folder: Path) -> dict[str, float | int]:
    """Open the log in this process and tell what it took. Memory is what the process held more at its highest."""
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    opened = open_log(folder, SEGMENT_BYTES)
    seconds = time.perf_counter() - started
    peak = peak_memory_bytes()
    held = psutil.Process().memory_info().rss
    payload = sum(len(entry.data or b"") for entry in opened.entries)
    found = {
        "seconds": seconds, "entries": len(opened.entries), "batches": opened.recovery.batches,
        "log_mib": opened.recovery.bytes / MIB, "payload_mib": payload / MIB,
        "peak_mib": (peak - before) / MIB, "held_mib": (held - before) / MIB,
    }  # fmt: skip
    opened.close()
    return found


def recovery(folder: Path, mib: int, entry_bytes: int) -> dict[str, float | int]:
    """Fill a log and recover it in a process of its own."""
    fill(folder, mib, entry_bytes)
    command = [sys.executable, __file__, "--recover", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float | int] = json.loads(done.stdout)
    shutil.rmtree(folder)
    return {"entry_bytes": entry_bytes} | found


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """All figures, each in a folder of its own."""
    here: Path = arguments.folder
    parameters: dict[str, object] = {
        "entry_bytes": arguments.entry_bytes, "rounds": arguments.rounds, "calls_a_round": arguments.calls,
        "durability": "fsync", "segment_mib": SEGMENT_BYTES // MIB, "folder": str(here),
        "encoder": encoding.ENCODER,
    } | environment(here)  # fmt: skip
    shapes = [(1, arguments.entry_bytes), (16, arguments.entry_bytes), (256, arguments.entry_bytes)]
    shapes += [(16, 65_536), (64, 65_536), (128, 65_536)]
    rows = []
    for entries, size in shapes:
        calls = max(3, min(arguments.calls, 128 * MIB // arguments.rounds // batch_bytes(entries, size)))
        with tempfile.TemporaryDirectory(dir=here) as name:
            rows.append({"entry_bytes": size} | interleaved(Path(name), entries, size, arguments.rounds, calls))
    recoveries = []
    for mib, size in [(64, 100), (64, 1_024), (1_024, 100), (1_024, 1_024)]:
        if mib <= arguments.recovery_mib_max:
            with tempfile.TemporaryDirectory(dir=here) as name:
                recoveries.append(recovery(Path(name) / "log", mib, size))
    return {"parameters": parameters, "appends": rows, "recoveries": recoveries}


def show(console: Console, title: str, rows: list[dict[str, float]]) -> None:
    """Some figures as a table."""
    if not rows:
        return
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="a folder on the disk to measure"
    )
    parser.add_argument("--rounds", type=int, default=20, help="how often raw writes and appends take turns")
    parser.add_argument("--calls", type=int, default=150, help="writes in one turn")
    parser.add_argument("--entry-bytes", type=int, default=100, help="payload of one entry")
    parser.add_argument("--recovery-mib-max", type=int, default=1_024, help="leave out larger logs")
    parser.add_argument("--recover", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    arguments = parser.parse_args()
    if arguments.recover is not None:
        print(json.dumps(recover_here(arguments.recover)))
        return
    found = measure(arguments)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(found["parameters"])
    show(console, "appends and raw pwrite + fdatasync of the same size, in turns", found["appends"])  # type: ignore[arg-type]
    show(console, "recovery, in a process of its own", found["recoveries"])  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
