"""`cluster.json`: what a data folder holds and who runs it, for a later start and for other commands."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from raftactors.config import Member
from raftactors.errors import ClusterUnreachableError, DataLockedError, ForeignDataError, StorageError

FILE_NAME = "cluster.json"
FORMAT = 1
_BYTES_MAX = 1024 * 1024
_CREATED_TOLERANCE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """A process named beyond the reuse of its pid: `created_s` is its start in seconds since the epoch."""

    node_id: int
    pid: int
    created_s: float

    def find(self) -> psutil.Process | None:
        """The very process, if it still lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created_s) < _CREATED_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


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
        path = folder / FILE_NAME
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def load_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a data folder, None if it has none.

    Raises ForeignDataError for a file that is not ours or of another format, StorageError if it cannot be read.
    """
    path = folder / FILE_NAME
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise ForeignDataError(f"{path} is too large for a raftactors manifest; choose another data folder")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
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


def load_running(folder: Path) -> Manifest:
    """The manifest of a cluster that somebody runs. Raises ClusterUnreachableError if nobody does."""
    manifest = load_manifest(folder)
    if manifest is None:
        raise ClusterUnreachableError(
            f"no cluster in {folder}; start one with `raftactors up --data-dir {folder}` or name its --data-dir"
        )
    if manifest.supervisor is None or manifest.supervisor.find() is None:
        raise ClusterUnreachableError(
            f"the cluster in {folder} does not run; start it with `raftactors up --data-dir {folder}`"
        )
    return manifest


class FolderLock:
    """Holds a data folder for one process; the kernel lets go when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Lock the folder, which must exist. Raises DataLockedError if another process holds it."""
        path = folder / "cluster.lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise DataLockedError(
                f"process {holder or 'unknown'} runs a cluster in {folder}; "
                f"end it with `raftactors down --data-dir {folder}` or choose another data folder"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of the folder. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _build(document: dict[str, Any]) -> Manifest:
    supervisor = document["supervisor"]
    return Manifest(
        **{
            **document,
            "import_paths": tuple(document["import_paths"]),
            "members": tuple(Member(**member) for member in document["members"]),
            "processes": tuple(ProcessRecord(**record) for record in document["processes"]),
            "supervisor": None if supervisor is None else ProcessRecord(**supervisor),
        }
    )
