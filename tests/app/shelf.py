"""An application with its own data, on a disk made of two dicts, and the points at which its process can be killed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raftactors.app import Application, Context, OnDiskApplication, command, query

Interrupt = Callable[[str], None]


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Disk:
    """What survives."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    notes: list[list[object]] = field(default_factory=list)


class Notes(Application):
    """The same machine with its data in memory: what the one on the disk must be equal to."""

    def __init__(self) -> None:
        self.notes: list[list[object]] = []

    @command
    def note(self, text: str, ctx: Context) -> list[object]:
        self.notes.append([text, ctx.index, ctx.ordinal, ctx.now_ms])
        return [len(self.notes), ctx.now_ms]

    @command
    def refuse(self, text: str) -> None:
        self.notes.append([text])
        raise ValueError(f"{text} after {len(self.notes)}")

    @query
    def count(self) -> int:
        return len(self.notes)

    def snapshot(self) -> object:
        return self.notes

    def restore(self, state: Any) -> None:
        self.notes = state


class Shelf(OnDiskApplication):
    """Notes in a transaction: what is there at `commit` replaces the disk in one step."""

    def __init__(self, disk: Disk, interrupt: Interrupt = lambda point: None) -> None:
        self.disk = disk
        self.interrupt = interrupt
        self.memory = Notes()

    @command
    def note(self, text: str, ctx: Context) -> list[object]:
        self.interrupt("command")
        result = self.memory.note(text, ctx)
        self.interrupt("commanded")
        return result

    @command
    def refuse(self, text: str) -> None:
        self.interrupt("command")
        self.memory.refuse(text)

    @query
    def count(self) -> int:
        return self.memory.count()

    def open(self, folder: Path) -> Mapping[bytes, bytes]:
        self.interrupt("open")
        self.memory.notes = copy.deepcopy(self.disk.notes)
        return dict(self.disk.rows)

    def begin(self) -> None:
        self.interrupt("begin")

    def commit(self, rows: Mapping[bytes, bytes | None]) -> None:
        self.interrupt("commit")
        self.keep_rows(rows)
        self.disk.notes = copy.deepcopy(self.memory.notes)
        self.interrupt("committed")

    def keep_rows(self, rows: Mapping[bytes, bytes | None]) -> None:
        for key, value in rows.items():
            if value is None:
                self.disk.rows.pop(key, None)
            else:
                self.disk.rows[key] = value

    def close(self) -> None:
        self.interrupt("close")

    def snapshot(self) -> object:
        return self.memory.snapshot()

    def restore(self, state: Any) -> None:
        self.interrupt("restore")
        self.memory.restore(state)
