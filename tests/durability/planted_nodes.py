"""Nodes with a known bug, planted, for the proof that a check of durability can fail.

Started in the place of `python -m raftactors.node`, with the name of the bug before the configuration:
`answers_first` releases what waits for the disk and writes afterwards; `never_syncs` believes that writing is enough,
`never_syncs_the_log` does so for batches of the log alone.
"""

from __future__ import annotations

import sys
import time

from raftactors import node
from raftactors.actors.mailbox import Lane
from raftactors.actors.messages import AppendsDone, Outbound
from raftactors.actors.storage import StorageActor
from raftactors.storage import RealFiles, Wal

DISK_S = 0.02


def answer_first(actor: StorageActor) -> None:
    """Stands for `StorageActor.flush`: answer, and only then write."""
    work, actor._work = actor._work, []
    batches, actor._batches = actor._batches, []
    outbound = [reply for message in work for reply in message.responses if reply.to != actor._node_id]
    actor._transport.tell(Outbound(outbound), Lane.STORAGE)
    actor._consensus.tell(AppendsDone(work), Lane.STORAGE)
    if batches:
        # The disk is slow enough for the others to go on with what they were told.
        time.sleep(DISK_S)
        actor._wal.append(batches)


def believe(files: RealFiles, descriptor: int) -> None:
    """Stands for `RealFiles.fdatasync`."""


def main() -> int:
    bug, *arguments = sys.argv[1:]
    if bug == "answers_first":
        StorageActor.flush = answer_first  # type: ignore[method-assign, assignment]
    elif bug == "never_syncs":
        RealFiles.fdatasync = believe  # type: ignore[method-assign, assignment]
    elif bug == "never_syncs_the_log":
        Wal._timed_sync = lambda wal: None  # type: ignore[method-assign, assignment]
    else:
        raise SystemExit(f"no such bug: {bug}")
    return node.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
