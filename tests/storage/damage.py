"""The damage sweep: a synced log of 64 KiB is damaged at every place in turn, and recovery must notice.

Each bit flipped, each 8-byte word, 512-byte sector and 4096-byte block zeroed, each two sectors exchanged and each put
in the place of each other, every length that a segment can be cut to, each segment deleted and each two exchanged.
Recovery either refuses and names file, offset and index, or finds the whole log; a log whose last batch was never
acknowledged may lack that batch and nothing else.

    python -m tests.storage.damage [--every N] [--unacknowledged]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from raftactors.core.types import HardState
from raftactors.errors import StorageError
from raftactors.storage import PowerCut, WalBatch
from raftactors.storage.recovery import Recovered, recover

from .shares import parse_share, run_shares, tell
from .tape import FOLDER, SEGMENT_BYTES, Log, Recorder
from .workloads import entries

SEGMENTS = 4
LOG_BYTES = SEGMENTS * SEGMENT_BYTES
SECTOR_BYTES = 512
SECTORS = LOG_BYTES // SECTOR_BYTES
WAL = FOLDER / "wal"

Contents = dict[str, bytes]
Damaged = Contents | None
SIZES = {"word": 8, "sector": SECTOR_BYTES, "block": 4_096}
KINDS = ("bit", "word", "sector", "block", "exchanged", "copied", "length", "segment")


class DamagedFiles(Recorder):
    """Just enough of a disk to recover from: names and their bytes."""

    def __init__(self) -> None:
        super().__init__("damage")
        self.contents: Contents = {}
        self._names: list[str] = []

    def open(self, path: Path, *, create: bool = False) -> int:
        self._names.append(path.name)
        return len(self._names) - 1

    def close(self, descriptor: int) -> None:
        del self._names[descriptor]

    def size(self, descriptor: int) -> int:
        return len(self.contents[self._names[descriptor]])

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return self.contents[self._names[descriptor]]

    def fsync(self, descriptor: int) -> None:
        pass

    def drop_cache(self, descriptor: int) -> None:
        pass

    def listdir(self, path: Path) -> list[str]:
        return sorted(self.contents)


def log_of_64_kib(*, acknowledged: bool) -> tuple[Contents, Log, Log]:
    """The segments of a closed log, what they hold, and what they may hold at least."""
    disk, log = Recorder("damage", seed=5), Log()
    opened = disk.open_storage()
    while opened.wal.stats.segments < SEGMENTS - 1 or opened.wal.stats.batches % 11:
        made = entries(disk.rng, len(log.entries) + 1, disk.rng.choice((1, 2, 4)), 1, (0, 30, 90, 250, 900))
        disk.append(opened, log, WalBatch(HardState(1, 1, len(log.entries)), made))
    least = Log()
    least.entries, least.hard_state = list(log.entries), log.hard_state
    if acknowledged:
        opened.close()
    else:
        last = WalBatch(HardState(1, 1, len(log.entries)), entries(disk.rng, len(log.entries) + 1, 2, 1, (150,)))
        log.apply(last)
        disk.cut_power(after_calls=1)
        with suppress(PowerCut):
            opened.wal.append([last])
    names = [name for name in disk.listdir(WAL) if name.endswith(".wal")]
    contents = {name: disk.content(WAL / name) for name in names}
    assert sum(map(len, contents.values())) == LOG_BYTES
    return contents, log, least


def damages(kind: str, contents: Contents, first: int, step: int) -> Iterator[tuple[str, Damaged]]:
    """Every `step`th damage of a kind from the `first` on: where, and the segments then; None if nothing changed."""
    names = sorted(contents)
    whole = b"".join(contents[name] for name in names)

    def replaced(*pieces: tuple[int, bytes]) -> Damaged:
        changed = dict(contents)
        for place, piece in pieces:
            name, offset = names[place // SEGMENT_BYTES], place % SEGMENT_BYTES
            old = changed[name]
            changed[name] = old[:offset] + piece + old[offset + len(piece) :]
        return None if changed == contents else changed

    def sector(number: int) -> bytes:
        return whole[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]

    if kind == "bit":
        for bit in range(first, 8 * LOG_BYTES, step):
            yield f"bit {bit}", replaced((bit // 8, bytes([whole[bit // 8] ^ 1 << bit % 8])))
    elif kind in SIZES:
        size = SIZES[kind]
        for place in range(first * size, LOG_BYTES, step * size):
            yield f"{kind} at {place}", replaced((place, bytes(size)))
    elif kind == "exchanged":
        for a, b in itertools.islice(itertools.combinations(range(SECTORS), 2), first, None, step):
            yield f"sectors {a} and {b}", replaced((a * SECTOR_BYTES, sector(b)), (b * SECTOR_BYTES, sector(a)))
    elif kind == "copied":
        for a, b in itertools.islice(itertools.permutations(range(SECTORS), 2), first, None, step):
            yield f"sector {a} over {b}", replaced((b * SECTOR_BYTES, sector(a)))
    elif kind == "length":
        for place in range(first, LOG_BYTES, step):
            name, length = names[place // SEGMENT_BYTES], place % SEGMENT_BYTES
            yield f"{name} cut to {length}", contents | {name: contents[name][:length]}
    else:
        changed = [{other: contents[other] for other in names if other != name} for name in names]
        changed += [contents | {a: contents[b], b: contents[a]} for a, b in itertools.combinations(names, 2)]
        for number in range(first, len(changed), step):
            yield f"segment case {number}", changed[number]


@dataclass(slots=True)
class Findings:
    """What a sweep met: how many damages were refused, without effect on the log, no change at all, or cut off."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def judge(files: DamagedFiles, log: Log, least: Log) -> tuple[str, str]:
    """(outcome, complaint) for the segments in `files`."""
    try:
        found: Recovered = recover(files, WAL, cluster_id=9, node_id=1)
    except StorageError as error:
        text = str(error)
        missing = [word for word in ("/wal", "offset", "index") if word not in text and "format" not in text]
        return "refused", f"the text lacks {missing}: {text}" if missing else ""
    except Exception as error:
        return "crashed", f"{type(error).__name__}: {error}"
    if (found.log.entries, found.log.hard_state) == (log.entries, log.hard_state):
        return "whole", ""
    if (found.log.entries, found.log.hard_state) == (least.entries, least.hard_state):
        return "cut off", ""
    return "different", f"{len(found.log.entries)} of {len(log.entries)} entries, no error"


def sweep(
    *,
    every: int = 1,
    acknowledged: bool = True,
    share: tuple[int, int] = (0, 1),
    report: bool = False,
    stop_at_failure: bool = False,
) -> Findings:
    """Judge every damage, or of each large kind a sample of one in `every` at places that a seed chooses."""
    contents, log, least = log_of_64_kib(acknowledged=acknowledged)
    files, findings, rng, done = DamagedFiles(), Findings(), Random(every), 0
    started = time.perf_counter()
    for kind in KINDS:
        step = 1 if kind in {"segment", "block", "sector"} else every
        first = rng.randrange(step) + share[0] * step
        for place, damaged in damages(kind, contents, first, step * share[1]):
            done += 1
            if report and done % 1_000 == 0:
                tell(done=1_000)
            if damaged is None:
                findings.outcomes[f"{kind} unchanged"] += 1
                continue
            files.contents = damaged
            outcome, complaint = judge(files, log, least)
            findings.outcomes[f"{kind} {outcome}"] += 1
            if complaint:
                findings.failures.append(f"{place}: {outcome}: {complaint}")
                if stop_at_failure:
                    return findings
    findings.seconds = time.perf_counter() - started
    return findings


def sweep_in_processes(*, every: int = 1, acknowledged: bool = True) -> Findings:
    """The same with a process for every core."""
    arguments = ["--every", str(every), *([] if acknowledged else ["--unacknowledged"])]
    findings = Findings()
    for result in run_shares("tests.storage.damage", arguments, total=622_000 // every, title="damaged logs"):
        findings.outcomes.update(result["outcomes"])
        findings.failures += result["failures"]
        findings.seconds = max(findings.seconds, result["seconds"])
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="take one damage of N (default: all)")
    parser.add_argument("--unacknowledged", action="store_true", help="the last batch was never acknowledged")
    parser.add_argument("--share", type=parse_share, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    acknowledged = not arguments.unacknowledged
    if arguments.share is not None:
        findings = sweep(every=arguments.every, acknowledged=acknowledged, share=arguments.share, report=True)
        outcomes = dict(findings.outcomes)
        tell(result={"outcomes": outcomes, "failures": findings.failures[:100], "seconds": findings.seconds})
        return 0
    findings = sweep_in_processes(every=arguments.every, acknowledged=acknowledged)
    total = sum(findings.outcomes.values())
    print(f"{total:,} damages in {findings.seconds:.1f} s, {len(findings.failures)} failures")
    for outcome, count in sorted(findings.outcomes.items()):
        print(f"  {outcome:<20} {count:>9,}")
    for failure in findings.failures[:20]:
        print(failure)
    return bool(findings.failures)


if __name__ == "__main__":
    sys.exit(main())
