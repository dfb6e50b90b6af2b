"""The two pipes between this process and a node that it starts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from raftactors.cluster.forking import close_inherited, let_go_after_fork
from raftactors.errors import ExitCode
from raftactors.node.parent import REPORT_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a node said about its start: that it serves, and its incarnation, or the exit code and text of a failure."""

    is_ready: bool = False
    incarnation: int = 0
    exit_code: int = ExitCode.OK
    text: str = ""


class NodePipes:
    """A lifeline, whose closing ends the node however this process dies, and a pipe for the node's report.

    The child's ends are `parent_fd` and `ready_fd`; `child_ends` keeps their numbers when they are closed here. Ours is
    `report_fd`, from which nothing more comes once `is_over`.
    """

    def __init__(self) -> None:
        """Open both. Raises OSError if the process may have no more descriptors."""
        self.parent_fd, self._life_fd = os.pipe()
        try:
            self.report_fd, self.ready_fd = os.pipe()
        except OSError:
            os.close(self.parent_fd)
            os.close(self._life_fd)
            raise
        self.child_ends = (self.parent_fd, self.ready_fd)
        self.is_over = False
        self._line = b""
        os.set_blocking(self.report_fd, False)
        let_go_after_fork(self)

    def close_child_ends(self) -> None:
        """The node has inherited them."""
        self.parent_fd = close_inherited(self.parent_fd)
        self.ready_fd = close_inherited(self.ready_fd)

    def close(self) -> None:
        """Let go: the node ends itself. May be called twice."""
        self.close_child_ends()
        self.report_fd = close_inherited(self.report_fd)
        self._life_fd = close_inherited(self._life_fd)

    let_go = close

    def read_report(self, node_id: int) -> Report | None:
        """What has arrived, without waiting; None if nothing did or it is none of this node."""
        if self.is_over or self.report_fd < 0:
            return None
        try:
            chunk = os.read(self.report_fd, REPORT_BYTES_MAX)
        except BlockingIOError:
            return None
        self._line += chunk
        self.is_over = not chunk or b"\n" in chunk or len(self._line) >= REPORT_BYTES_MAX
        return _parse(self._line, node_id) if self.is_over else None


def _parse(line: bytes, node_id: int) -> Report | None:
    try:
        document = json.loads(line)
        if document["event"] == "failed":
            return Report(exit_code=int(document["exit_code"]), text=str(document["text"]))
        if document["event"] == "ready" and document["node_id"] == node_id:
            return Report(is_ready=True, incarnation=int(document["incarnation"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return None
