"""Removing segments that nothing needs any more, so that what stays is a log without a gap at any time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from raftactors.storage.files import FileSystem


class SegmentPurge:
    """The segments of one log that are to go: the oldest first, each for good before the next.

    A crash in between leaves a log that begins at a later segment. So does a disk that refuses: no segment goes before
    all older ones are gone.
    """

    def __init__(self, files: FileSystem, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._names: list[str] = []

    def add(self, names: Iterable[str]) -> None:
        """Note more segments, the oldest first, all newer than those noted before."""
        self._names += names

    def run(self) -> int:
        """Remove them; returns how many. Raises OSError, with what is left kept for the next call."""
        count = 0
        while self._names:
            path = self._folder / self._names[0]
            if self._files.exists(path):
                self._files.unlink(path)
                self._files.fsync_dir(self._folder)
                count += 1
            del self._names[0]
        return count
