"""Compiles `shim.c` and steers it: one control block a node, shared with the node's process."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from raftactors.cluster.process import NODE_COMMAND

_FIELDS = (
    "calls",
    "kill_at",
    "kill_until",
    "kills",
    "fault_class",
    "fault_at",
    "fault_kind",
    "fault_errno",
    "class_calls",
    "fired_ns",
    "syncs_after",
    "stall",
    "stalled",
    "no_space",
)
_RECORD = struct.Struct("<qqqqiiii")

SYNC, WRITE, NAMES = 1, 2, 3
"""Classes of storage calls: fsync and fdatasync; pwrite; creating, renaming, removing, making folders."""

FAIL, SHORT, TORN = 1, 2, 3
"""Faults: the call does nothing and fails; it writes half and says so; it writes half and fails."""

SOURCE = Path(__file__).with_name("shim.c")


def missing() -> str:
    """Why the shim cannot be used here; empty when it can."""
    absent = [name for name in ("cc", "env") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def planted_command(bug: str) -> tuple[str, ...]:
    """How a LocalCluster starts nodes with one of the bugs of `planted_nodes`."""
    return (sys.executable, "-P", str(SOURCE.with_name("planted_nodes.py")), bug)


class Control:
    """One node's control block; every field is a number that the node's process reads and writes at once."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def __getitem__(self, name: str) -> int:
        (value,) = struct.unpack_from("<q", self._shared, 8 * _FIELDS.index(name))
        return int(value)

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("<q", self._shared, 8 * _FIELDS.index(name), value)

    def kills_by_class(self) -> dict[str, int]:
        """How many kills met each class of call."""
        values = struct.unpack_from("<4q", self._shared, 8 * len(_FIELDS))
        return dict(zip(("sync", "write", "names"), values[1:], strict=True))

    def close(self) -> None:
        self._shared.close()


class Record(NamedTuple):
    """One traced call: O open, W write done, S sync done, A connection accepted, D bytes sent on it."""

    before_ns: int
    after_ns: int
    offset: int
    inode: int
    kind: str
    fd: int
    length: int
    port: int
    payload: bytes


class Shim:
    """A compiled shim and the control blocks of nodes 1 to `nodes`, in a folder that outlives the nodes."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._folder = folder
        self._library = folder / "shim.so"
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE), "-ldl"], check=True)
        self.control = {node_id: Control(folder / f"control-{node_id}") for node_id in range(1, nodes + 1)}

    def command(self, *, traced: bool = False, bug: str = "") -> tuple[str, ...]:
        """How a LocalCluster starts nodes under the shim, with one of the bugs of `planted_nodes` if one is named."""
        env = str(shutil.which("env"))
        settings = [f"LD_PRELOAD={self._library}", f"RAFT_SHIM_FOLDER={self._folder}"]
        settings += ["RAFT_SHIM_TRACE=1"] if traced else []
        return (env, *settings, *(planted_command(bug) if bug else NODE_COMMAND))

    def trace(self, node_id: int) -> Iterator[Record]:
        """What the node's process did, in the order in which it was noted."""
        content = (self._folder / f"trace-{node_id}").read_bytes()
        position = 0
        while position < len(content):
            before, after, offset, inode, kind, fd, length, port = _RECORD.unpack_from(content, position)
            position += _RECORD.size
            payload_bytes = length if chr(kind) in "OD" else 0
            payload = content[position : position + payload_bytes]
            position += payload_bytes
            yield Record(before, after, offset, inode, chr(kind), fd, length, port, payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for control in self.control.values():
            control.close()
