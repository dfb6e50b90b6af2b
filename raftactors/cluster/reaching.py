"""The ways from a data folder to the cluster that runs in it, for commands of other processes."""

from __future__ import annotations

import signal
from pathlib import Path

from raftactors.cluster.control import NoControlError, ask
from raftactors.cluster.folder import end_leftovers
from raftactors.cluster.manifest import FolderLock, load_manifest, load_running
from raftactors.errors import ClusterUnreachableError, DataLockedError

_END_TIMEOUT_MS = 60_000


def operate(folder: Path, operation: str, node_id: int | None = None) -> object:
    """Have the supervisor of the cluster in `folder` do something, and return its answer.

    Raises ClusterUnreachableError, which says what is wrong and what helps, or the error of the supervisor.
    """
    running = load_running(folder)
    supervisor = running.supervisor
    if supervisor is not None and supervisor.is_stopped():
        raise ClusterUnreachableError(
            f"process {supervisor.pid}, which runs the cluster in {folder}, is stopped; "
            f"let it go on with `kill -CONT {supervisor.pid}`, or with `fg` in its terminal"
        )
    return ask(running.control_socket, operation, node_id)


def stop_cluster(folder: Path) -> None:
    """Let all nodes drain and end, and return when none runs any more.

    A supervisor whose socket is out of reach gets SIGTERM; nodes of one that has died are seen off. Raises
    ClusterUnreachableError if nothing runs, or does not end within a minute.
    """
    try:
        operate(folder, "down")
    except NoControlError:
        _end_supervisor(folder)
        _end_nodes(folder)
    except ClusterUnreachableError:
        if not _end_nodes(folder):
            raise


def _end_supervisor(folder: Path) -> None:
    supervisor = load_running(folder).supervisor
    if supervisor is not None and not supervisor.end(signal.SIGTERM, _END_TIMEOUT_MS):
        raise ClusterUnreachableError(
            f"process {supervisor.pid}, which runs the cluster in {folder}, does not end; "
            f"`kill -KILL {supervisor.pid}` ends it, and its nodes end themselves"
        )


def _end_nodes(folder: Path) -> int:
    """See off what a supervisor that is gone has left; returns how many nodes that were."""
    found = load_manifest(folder)
    if found is None or not any(record.find() for record in found.processes):
        return 0
    try:
        lock = FolderLock(folder)
    except DataLockedError:
        return 0  # Nothing is left: somebody runs it.
    try:
        return end_leftovers(folder, found)
    finally:
        lock.release()
