"""Writing what recovery decided: the original is kept first, then bytes are erased or put in place, then synced."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from raftactors.storage.files import FileSystem
from raftactors.storage.record import Place, SegmentEnd, encode_segment_end
from raftactors.storage.replay import Scan

BROKEN_COPIES_MAX = 4
"""How many kept originals stay; the oldest go."""

_CHUNK_BYTES = 1024 * 1024
_ZEROS = bytes(_CHUNK_BYTES)


class Repair(NamedTuple):
    """Writes to one segment. `original` is what to keep a copy of first, b"" when nothing is lost by the repair."""

    path: Path
    original: bytes
    writes: tuple[tuple[int, bytes], ...]

    @classmethod
    def erase(cls, path: Path, content: bytes, start: int) -> Repair:
        """Zero everything from `start` to the end of the file."""
        return cls(path, content, _erasing(content, start))

    @classmethod
    def seal(cls, path: Path, content: bytes, scan: Scan, sealed: SegmentEnd) -> Repair:
        """Put SEGMENT_END behind the last batch, and zeros behind it."""
        record = encode_segment_end(sealed, Place(scan.header.salt, scan.stop, scan.number, scan.chain))
        erasing = _erasing(content, scan.stop)
        return cls(path, content if erasing else b"", (*erasing, (scan.stop, record)))


def perform_repairs(files: FileSystem, repairs: list[Repair], incarnation: int) -> Path | None:
    """Make the repairs durable; returns the path of the last original kept, if any."""
    kept: Path | None = None
    for repair in repairs:
        if repair.original:
            kept = _keep_original(files, repair, incarnation)
        descriptor = files.open(repair.path)
        try:
            for offset, content in repair.writes:
                files.pwrite(descriptor, content, offset)
            files.fsync(descriptor)
        finally:
            files.close(descriptor)
    return kept


def nonzero_stop(content: bytes) -> int:
    """The offset behind the last byte that is not zero."""
    stop = len(content)
    # Comparing is much faster than looking at single bytes, so only the last kilobyte is stripped.
    for step in (_CHUNK_BYTES, 32 * 1024, 1024):
        zeros = _ZEROS[:step]
        while stop >= step and content[stop - step : stop] == zeros:
            stop -= step
    return (
        stop - 1024 + len(content[stop - 1024 : stop].rstrip(b"\0"))
        if stop > 1024
        else len(content[:stop].rstrip(b"\0"))
    )


def _erasing(content: bytes, start: int) -> tuple[tuple[int, bytes], ...]:
    """Writes of zeros that cover everything from `start` that is not zero already."""
    stop = nonzero_stop(content)
    return tuple(
        (offset, _ZEROS[: min(_CHUNK_BYTES, stop - offset)]) for offset in range(start, max(start, stop), _CHUNK_BYTES)
    )


def _keep_original(files: FileSystem, repair: Repair, incarnation: int) -> Path:
    """Copy the segment to `<name>.<incarnation>.broken`, without the zeros at its end."""
    folder = repair.path.parent
    path = folder / f"{repair.path.name}.{incarnation:016x}.broken"
    if files.exists(path):
        return path  # Two repairs of one segment at one start: the first copy is the original.
    descriptor = files.open(path, create=True)
    try:
        files.pwrite(descriptor, memoryview(repair.original)[: nonzero_stop(repair.original)], 0)
        files.fsync(descriptor)
    finally:
        files.close(descriptor)
    copies = sorted(
        (name for name in files.listdir(folder) if name.endswith(".broken")), key=lambda name: name.split(".")[-2]
    )
    for name in copies[:-BROKEN_COPIES_MAX]:
        files.unlink(folder / name)
    files.fsync_dir(folder)
    return path
