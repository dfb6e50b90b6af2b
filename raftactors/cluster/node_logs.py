"""The logs in a cluster's folder, read while they are written: their last lines, and what comes after them."""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from raftactors.cluster.node_folder import log_file, rotated_log_file
from raftactors.errors import StorageError

SUPERVISOR_LOG = "supervisor.log"
LINE_BYTES_MAX = 64 * 1024
"""A longer line is shown in pieces."""

_BLOCK_BYTES = 64 * 1024
_SEEN_BYTES = 512
"""How much of what was read last is looked for in a log that was put aside."""

_PUT_ASIDE_BYTES_MAX = 16 * 1024 * 1024
"""More than a node writes between two looks."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}(?= )")
_LEVEL = re.compile(r" (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")


class LogLine(NamedTuple):
    """One line. `node_id` is 0 for the supervisor; `moment` is "" for a line before the first one that has a time."""

    node_id: int
    moment: str
    text: str

    @property
    def level(self) -> str:
        """The level, in capitals; "" for a line that has none, as those of a traceback."""
        found = _LEVEL.search(self.text[:64])
        return "" if found is None else found[1]


class LogTail:
    """The log of one node, or of the supervisor (node id 0), from its last lines on.

    A log that does not exist yet is empty, and is read from its beginning once it does. Of one that a node put aside or
    that was replaced by another, the rest is read first. Belongs to one thread; close it.
    """

    def __init__(self, cluster_folder: Path, node_id: int) -> None:
        self.node_id = node_id
        self._path = log_file(cluster_folder, node_id) if node_id else cluster_folder / SUPERVISOR_LOG
        self._rotated = rotated_log_file(self._path)
        self._file: BinaryIO | None = None
        self._seen = b""
        self._rest = b""
        self._moment = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def last(self, lines_max: int) -> list[LogLine]:
        """The last lines, those of the log before the present one included. Call it once, before `more`.

        Raises StorageError if the log cannot be read.
        """
        self._file = _open(self._path)
        content = b"" if self._file is None else _last_lines(self._file, lines_max)
        self._seen = content[-_SEEN_BYTES:]
        older = lines_max - content.count(b"\n") - (not content.endswith(b"\n") and bool(content))
        if older > 0 and (rotated := _open(self._rotated)) is not None:
            with rotated:
                before = _last_lines(rotated, older)
            # A process that was killed may have left the end of its last line unwritten.
            content = before + (b"" if before.endswith(b"\n") or not before else b"\n") + content
        return list(self._lines(content))

    def more(self) -> list[LogLine]:
        """The whole lines that were written since. Raises StorageError if the log cannot be read."""
        found = self._read()
        if self._was_replaced():
            # What was written between the look at the end and the replacement.
            found += self._read()
            found += self._put_aside()
            if self._rest:
                found += self._lines(b"\n")
            self.close()
            self._file, self._seen = _open(self._path), b""
            found += self._read()
        return found

    def rest(self) -> list[LogLine]:
        """The line at the end that is not whole yet, for a reader who waits for nothing more."""
        return list(self._lines(b"\n")) if self._rest else []

    def _read(self) -> list[LogLine]:
        found: list[LogLine] = []
        while self._file is not None and (block := self._file.read(_BLOCK_BYTES)):
            self._seen = (self._seen + block)[-_SEEN_BYTES:]
            found += self._lines(block)
        return found

    def _put_aside(self) -> list[LogLine]:
        """What a node wrote before it emptied its log: the copy of the old one goes on after what was read last."""
        rotated = _open(self._rotated) if self._seen else None
        if rotated is None:
            return []
        with rotated:
            rotated.seek(max(0, os.fstat(rotated.fileno()).st_size - _PUT_ASIDE_BYTES_MAX))
            _, seen, after = rotated.read(_PUT_ASIDE_BYTES_MAX).rpartition(self._seen)
        return list(self._lines(after)) if seen else []

    def _was_replaced(self) -> bool:
        try:
            present = self._path.stat()
        except OSError:
            return False
        if self._file is None:
            return True
        own = os.fstat(self._file.fileno())
        return (own.st_dev, own.st_ino) != (present.st_dev, present.st_ino) or own.st_size < self._file.tell()

    def _lines(self, content: bytes) -> Iterator[LogLine]:
        *whole, self._rest = (self._rest + content).split(b"\n")
        while len(self._rest) > LINE_BYTES_MAX:
            whole.append(self._rest[:LINE_BYTES_MAX])
            self._rest = self._rest[LINE_BYTES_MAX:]
        for line in whole:
            text = line.decode(errors="backslashreplace").rstrip("\r")
            found = _MOMENT.match(text)
            if found is not None:
                # A clock that was set back must not put a line before the one that was written earlier.
                self._moment = max(self._moment, found[0])
            yield LogLine(self.node_id, self._moment, text)


def interleave(parts: Iterable[Iterable[LogLine]]) -> Iterator[LogLine]:
    """The lines of several logs in the order of their times; those of one log stay in their order."""
    return heapq.merge(*parts, key=lambda line: line.moment)


def nodes_with_logs(cluster_folder: Path) -> list[int]:
    """The ids of the nodes that have a log in the folder; 0 for the supervisor's."""
    found = []
    for path in cluster_folder.glob("node-*"):
        number = path.name.removeprefix("node-")
        if number.isdecimal() and log_file(cluster_folder, int(number)).is_file():
            found.append(int(number))
    if (cluster_folder / SUPERVISOR_LOG).is_file():
        found.append(0)
    return sorted(found)


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; check its owner and mode") from error


def _last_lines(file: BinaryIO, lines_max: int) -> bytes:
    """The bytes of the last lines; the file stands at its end afterwards."""
    place = end = file.seek(0, os.SEEK_END)
    blocks: list[bytes] = []
    breaks = 0
    # One line break more than lines: the one before the first of them.
    while place > 0 and breaks <= lines_max and end - place < lines_max * LINE_BYTES_MAX:
        start = max(0, place - _BLOCK_BYTES)
        file.seek(start)
        blocks.append(file.read(place - start))
        breaks += blocks[-1].count(b"\n")
        place = start
    file.seek(end)
    *whole, rest = b"".join(reversed(blocks)).split(b"\n")
    wanted = max(0, lines_max - bool(rest))
    return b"".join(line + b"\n" for line in whole[max(0, len(whole) - wanted) :]) + rest
