"""What every benchmark reports: the parameters, the figures, where they were measured; as a table or as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured period of one system.

    `writes` were acknowledged within `seconds`; latencies are milliseconds from sending to the reply; `server_cpu_us`
    is the processor time that all nodes together spent for one write. A figure that the load generator could not
    give is None.
    """

    system: str
    round: int
    writes: int
    errors: int
    seconds: float
    mean_ms: float | None
    p50_ms: float | None
    p99_ms: float | None
    server_cpu_us: float | None
    verified: str

    @property
    def writes_per_s(self) -> float:
        """The rate over the measured period."""
        return self.writes / self.seconds if self.seconds else 0.0


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` (0 to 1) of the sorted values do not exceed; None without values."""
    if not ordered:
        return None
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 10_000) * len(ordered) // 10_000) - 1))]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def filesystem_of(path: Path) -> str:
    """The type of the filesystem that holds `path`: figures from a tmpfs say nothing about a disk."""
    best, kind = "", "unknown"
    for partition in psutil.disk_partitions(all=True):
        inside = path.resolve().is_relative_to(partition.mountpoint)
        if inside and len(partition.mountpoint) >= len(best):
            best, kind = partition.mountpoint, partition.fstype
    return kind


def cpu_seconds(processes: Sequence[int]) -> float:
    """Processor time, user and system, that the processes have spent so far."""
    times = [psutil.Process(pid).cpu_times() for pid in processes]
    return sum(time.user + time.system for time in times)


def environment(data_dir: Path) -> dict[str, str | int | float]:
    """The machine, as far as it matters for reading a figure."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "filesystem": filesystem_of(data_dir),
    }


def report(
    title: str,
    parameters: Mapping[str, object],
    measurements: Sequence[Measurement],
    *,
    as_json: bool,
    summary: str = "",
) -> None:
    """Print the measurements with everything needed to repeat them."""
    if as_json:
        rows = [dataclasses.asdict(one) | {"writes_per_s": round(one.writes_per_s, 1)} for one in measurements]
        document = {"title": title, "parameters": dict(parameters), "summary": summary, "measurements": rows}
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("system", "#", "writes/s", "mean ms", "p50 ms", "p99 ms", "err", "cpu us", "verified"):
        table.add_column(heading, justify="left" if heading in {"system", "verified"} else "right", no_wrap=True)
    for one in measurements:
        figures = (one.mean_ms, one.p50_ms, one.p99_ms)
        table.add_row(
            one.system,
            str(one.round),
            f"{one.writes_per_s:,.0f}",
            *("-" if figure is None else f"{figure:.2f}" for figure in figures),
            str(one.errors),
            "-" if one.server_cpu_us is None else f"{one.server_cpu_us:.0f}",
            one.verified,
        )
    console = Console()
    console.print(table)
    if summary:
        console.print(summary, highlight=False)
    console.print("err: without a result; cpu us: processor time of all nodes together for one write")
    console.print(", ".join(f"{name}={value}" for name, value in parameters.items()), highlight=False)
