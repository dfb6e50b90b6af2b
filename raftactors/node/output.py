"""Standard output and error of a node process.

They belong to the application: it may print without end and without newlines, write bytes, close or replace the
streams and the descriptors. None of that may block the node, hide its own lines or reach its files, and no reader may
be needed.
So the streams stand on descriptors of their own, never raise, never close and never wait for long: replicas of which
one has a full disk or a slow reader would otherwise differ in what a command did.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import shutil
import stat
import sys
import threading
from collections.abc import Callable

_CHUNK_BYTES = 4_096
"""What a pipe that is writable takes without waiting (PIPE_BUF)."""

_PATIENCE_MS = 1_000
"""How long a reader may take once; while it does not read, what is written is dropped without waiting."""

_LOOK_EVERY_BYTES = 1024 * 1024


class OwnStream(io.RawIOBase):
    """Writes to `descriptor` and calls `after_bytes` after every MiB. What cannot be written is dropped and told later.

    It cannot be closed: neither `sys.stdout.close()` nor closing descriptor 1 ends it.
    """

    def __init__(self, descriptor: int, *, after_bytes: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._after_bytes = after_bytes
        self._written_bytes = 0
        self._dropped_bytes = 0

    def fileno(self) -> int:
        """The descriptor, for programs that the application starts with this stream."""
        return self._descriptor

    def writable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Nothing: the node still needs it."""

    def isatty(self) -> bool:
        """Whether a person sees it."""
        return os.isatty(self._descriptor)

    def write(self, content: object, /) -> int:
        """Write or drop all of `content`; never raises, and waits for a slow reader only once."""
        view = memoryview(content).cast("B")  # type: ignore[arg-type]  # io hands over any buffer
        for start in range(0, len(view), _CHUNK_BYTES):
            chunk = view[start : start + _CHUNK_BYTES]
            if not self._write_chunk(chunk):
                self._dropped_bytes += len(chunk)
        self._written_bytes += len(view)
        if self._written_bytes >= _LOOK_EVERY_BYTES:
            self._written_bytes = 0
            self._after_bytes()
        return len(view)

    def _write_chunk(self, chunk: memoryview) -> bool:
        try:
            if not self._is_writable():
                return False
            if self._dropped_bytes:
                os.write(self._descriptor, b"raftactors: %d bytes of output were dropped\n" % self._dropped_bytes)
                self._dropped_bytes = 0
                if not self._is_writable():
                    return False
            while chunk:
                chunk = chunk[os.write(self._descriptor, chunk) :]
        except OSError:  # A full disk, or a reader that has gone.
            return False
        return True

    def _is_writable(self) -> bool:
        if self._is_file:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0 if self._dropped_bytes else _PATIENCE_MS))


class _OwnBuffer(io.BufferedWriter):
    def close(self) -> None:
        self.flush()


class _OwnText(io.TextIOWrapper):
    def close(self) -> None:
        self.flush()


class NodeOutput:
    """Takes standard output and error over; `log_bytes_max` above 0 says that they are a log to be kept that small.

    `stream` is for the node's own lines. A full log is copied to the same name with `.1` and emptied, so that programs
    which the application has started go on with the same file.
    """

    def __init__(self, *, log_bytes_max: int = 0) -> None:
        fill_standard_descriptors()
        self._log_bytes_max = log_bytes_max
        self._trimming = threading.Lock()
        # Numbers of three and more, closed in programs that the application starts.
        self._output_fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
        self._error_fd = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3)
        self.stream = self._text(self._error_fd)
        # Not the application's streams: what it does to those, the last words of a failing actor still find these.
        sys.__stdout__, sys.__stderr__ = self._text(self._output_fd), self.stream  # type: ignore[misc]
        sys.stdout, sys.stderr = self._text(self._output_fd), self._text(self._error_fd)

    def print_line(self, line: str) -> None:
        """Write one line to standard output as it was at the start of the process."""
        OwnStream(self._output_fd).write(line.encode() + b"\n")

    def look_after(self) -> None:
        """Put a log aside that is full, and fill standard descriptors that the application has closed."""
        fill_standard_descriptors()
        if self._log_bytes_max and self._trimming.acquire(blocking=False):
            try:
                _trim(self._error_fd, self._log_bytes_max)
            finally:
                self._trimming.release()

    def _text(self, descriptor: int) -> io.TextIOWrapper:
        raw = OwnStream(descriptor, after_bytes=self.look_after)
        return _OwnText(_OwnBuffer(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def fill_standard_descriptors() -> None:
    """Open /dev/null in the place of a closed descriptor 0, 1 or 2: no file or socket may come to have that number.

    What writes to standard output without asking would write into it.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if descriptor > 2:
            os.close(descriptor)
            return
        os.set_inheritable(descriptor, True)


def _trim(descriptor: int, bytes_max: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size <= bytes_max:
        return
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    # A full disk may not take the copy, and an empty log helps there more than a whole one.
    with contextlib.suppress(OSError), open(path, "rb") as log:
        if os.path.samestat(os.fstat(log.fileno()), found):
            log.seek(found.st_size - bytes_max)
            with open(f"{path}.1", "wb", opener=_open_private) as kept:
                shutil.copyfileobj(log, kept)
    os.ftruncate(descriptor, 0)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
