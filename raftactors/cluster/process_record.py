"""A process named so that another process recognizes it later, whatever happened to the wall clock and to its pid."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STATE, _START = 0, 19
"""Fields of /proc/PID/stat, counted after the name of the program, which may hold anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """Pid and start, in clock ticks since the boot that `boot_id` names: no step of the wall clock changes them."""

    node_id: int
    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int, *, node_id: int) -> Self:
        """The record of a process that lives. Raises OSError if it does not."""
        _, start_ticks = _read_stat(pid)
        return cls(node_id=node_id, pid=pid, start_ticks=start_ticks, boot_id=_read_boot_id())

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """What a manifest holds. One of an older version, which counted from the epoch, is found no more.

        Raises KeyError or TypeError for anything else.
        """
        if "created_s" in document:
            return cls(node_id=document["node_id"], pid=document["pid"], start_ticks=-1, boot_id="")
        record = cls(**document)
        if not all(type(number) is int for number in (record.node_id, record.pid, record.start_ticks)):
            raise TypeError(f"process record {document} holds something that is no number")
        return record

    def find(self) -> psutil.Process | None:
        """The very process, if it still lives."""
        try:
            state, start_ticks = _read_stat(self.pid)
            if state not in "ZX" and (start_ticks, _read_boot_id()) == (self.start_ticks, self.boot_id):
                return psutil.Process(self.pid)
        except (OSError, psutil.Error):
            pass
        return None

    def is_stopped(self) -> bool:
        """Whether the process lives and stands still (SIGSTOP, Ctrl-Z)."""
        try:
            return self.find() is not None and _read_stat(self.pid)[0] in "Tt"
        except OSError:
            return False

    def end(self, number: signal.Signals, timeout_ms: int) -> bool:
        """Send a signal to the very process and wait for its end; True if it has ended, now or before.

        Raises PermissionError for the process of another user.
        """
        if self.find() is None:
            return True
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # The descriptor stands for one process, so it is the recorded one for good if it is now.
            if self.find() is None:
                return True
            signal.pidfd_send_signal(descriptor, number)
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            return bool(ended.poll(timeout_ms))
        except ProcessLookupError:
            return True
        finally:
            os.close(descriptor)


def _read_stat(pid: int) -> tuple[str, int]:
    """State and start of a process; OSError if there is none."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = text.rpartition(")")[2].split()
    return fields[_STATE], int(fields[_START])


def _read_boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
