"""`cluster.json`: what a data folder holds and who runs it, for a later start and for other commands."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raftactors.cluster.forking import close_inherited, let_go_after_fork
from raftactors.cluster.private_files import replace_text
from raftactors.cluster.process_record import ProcessRecord
from raftactors.cluster.working_folder import absolute
from raftactors.config import Member
from raftactors.errors import ClusterUnreachableError, DataLockedError, ForeignDataError, StorageError
from raftactors.storage.files import open_private

FILE_NAME = "cluster.json"
FORMAT = 2
_READABLE_FORMATS = frozenset({1, 2})
"""Format 1 named processes by the wall clock."""

_LOCK_NAME = "cluster.lock"
_PID_BYTES = 32
_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`has_served` is False until all nodes served once: before that, nobody was promised anything.

    `supervisor` has node id 0; it is None, and `control_socket` empty, while nobody runs the cluster.
    """

    cluster_id: int
    application: str
    application_identity: str
    import_paths: tuple[str, ...]
    members: tuple[Member, ...]
    has_served: bool = False
    processes: tuple[ProcessRecord, ...] = ()
    supervisor: ProcessRecord | None = None
    control_socket: str = ""
    format: int = field(default=FORMAT)

    @property
    def client_addresses(self) -> dict[int, str]:
        """Where clients reach each node."""
        return {member.node_id: member.client_address for member in self.members}

    def save(self, folder: Path) -> None:
        """Write the manifest so that a crash leaves the old or the new one."""
        text = json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"
        replace_text(folder / FILE_NAME, text, sync=True)


def load_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a data folder, None if it has none.

    Raises ForeignDataError for a file that is not ours or of another format, StorageError if it cannot be read.
    """
    path = folder / FILE_NAME
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise ForeignDataError(f"{path} is too large for a raftactors manifest; choose another data folder")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] not in _READABLE_FORMATS:
            raise ForeignDataError(
                f"{path} has format {document['format']!r}, this version reads {FORMAT}; choose another data folder"
            )
        return _build(document)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ForeignDataError(f"{path} is not a raftactors manifest ({error}); choose another data folder") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; check the folder's owner and mode") from error


def load_existing(folder: Path) -> Manifest:
    """The manifest of a cluster, running or not. Raises ClusterUnreachableError if there is none in the folder."""
    manifest = load_manifest(folder)
    if manifest is None:
        where = "" if folder.is_absolute() else f" (looked in {absolute(folder)})"
        raise ClusterUnreachableError(
            f"no cluster in {folder}; start one with `raftactors up --data-dir {shlex.quote(str(folder))}` "
            f"or name its --data-dir{where}"
        )
    return manifest


def load_running(folder: Path) -> Manifest:
    """The manifest of a cluster that somebody runs. Raises ClusterUnreachableError if nobody does."""
    manifest = load_existing(folder)
    supervisor = manifest.supervisor
    if supervisor is None or supervisor.find() is None or not _has_open(supervisor.pid, folder / _LOCK_NAME):
        raise ClusterUnreachableError(_why_not_running(manifest, folder))
    return manifest


def _why_not_running(manifest: Manifest, folder: Path) -> str:
    holder = _holder(folder)
    if holder and _has_open(holder, folder / _LOCK_NAME):
        return (
            f"process {holder} is about to start, stop or rebuild the cluster in {folder}, or belongs to an older "
            f"raftactors; wait and try again, or end it with `kill {holder}`"
        )
    nodes = [record for record in manifest.processes if record.find() is not None]
    if nodes and manifest.supervisor is not None and manifest.supervisor.find() is None:
        names = ", ".join(f"node {record.node_id} (process {record.pid})" for record in nodes)
        return (
            f"the process that ran the cluster in {folder} is gone, and {names} will end soon; "
            f"`raftactors down --data-dir {shlex.quote(str(folder))}` ends them now"
        )
    ids = ", ".join(str(member.node_id) for member in manifest.members)
    return (
        f"the cluster in {folder} does not run; start it with `raftactors up --data-dir {shlex.quote(str(folder))}` "
        f"({manifest.application}, nodes {ids})"
    )


def _holder(folder: Path) -> int:
    """Who wrote itself into the lock last, 0 if nobody did."""
    try:
        text = (folder / _LOCK_NAME).read_bytes()[:_PID_BYTES].strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has this very file open; who runs the folder that this one was copied from has another one."""
    try:
        wanted = path.stat()
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), wanted):
                    return True
            except OSError:
                continue  # Closed meanwhile, or a file that is out of reach.
    except OSError:
        pass
    return False


class FolderLock:
    """Holds a data folder for one process; the kernel lets go when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Lock the folder, which must exist. Raises DataLockedError if another process holds it."""
        path = folder / _LOCK_NAME
        self._descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, _PID_BYTES, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise DataLockedError(
                f"process {holder or 'unknown'} runs a cluster in {folder}; "
                f"end it with `raftactors down --data-dir {shlex.quote(str(folder))}` or choose another data folder"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        let_go_after_fork(self)

    def release(self) -> None:
        """Let go of the folder. May be called twice."""
        if self._descriptor >= 0:
            # Closing alone would not do while a copy of the descriptor exists elsewhere.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._descriptor = close_inherited(self._descriptor)

    def let_go(self) -> None:
        """In a forked copy: close the descriptor; the original keeps the lock."""
        self._descriptor = close_inherited(self._descriptor)


def _build(document: dict[str, Any]) -> Manifest:
    supervisor = document["supervisor"]
    return Manifest(
        **{
            **document,
            "import_paths": tuple(document["import_paths"]),
            "members": tuple(Member(**member) for member in document["members"]),
            "processes": tuple(ProcessRecord.parse(record) for record in document["processes"]),
            "supervisor": None if supervisor is None else ProcessRecord.parse(supervisor),
            "format": FORMAT,
        }
    )
