"""A cluster's data folder: one process holds it, one cluster lives in it.

DIR/cluster.json, cluster.lock     what it holds and who runs it
DIR/control/socket                 where its supervisor hears other commands, while it runs
DIR/node-1/config.json, log, data/ what the first node is told, what it says, what it keeps; and so on
DIR/witness/node-1                 what the first node has shown to others, by which an old copy of data/ is noticed
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path

import psutil

from raftactors.cluster.application import ApplicationReference
from raftactors.cluster.control_socket import FOLDER_NAME, remove_socket
from raftactors.cluster.manifest import FILE_NAME, FolderLock, Manifest, load_manifest
from raftactors.cluster.node_folder import CONFIG_NAME, WITNESS_FOLDER, node_folder
from raftactors.cluster.node_logs import SUPERVISOR_LOG
from raftactors.cluster.private_files import make_folders
from raftactors.cluster.process_record import ProcessRecord
from raftactors.cluster.working_folder import absolute
from raftactors.config import Member
from raftactors.errors import ForeignDataError, StorageError

_OWN_END_S = 5.0
"""How long nodes of a supervisor that was killed may take to notice and end themselves."""
_END_POLL_S = 0.02


class ClusterFolder:
    """Opens the folder, or makes a temporary one for None. `has_served` tells whether an older cluster goes on in it.

    Raises DataLockedError if another process runs a cluster there, ForeignDataError if it holds another application,
    another number of nodes or something else, StorageError if it cannot be made.
    """

    def __init__(self, path: Path | None, *, nodes: int, application: ApplicationReference) -> None:
        self.is_temporary = path is None
        self.path = Path(tempfile.mkdtemp(prefix="raftactors-")) if path is None else absolute(path)
        self._application = application
        _make(self.path)
        self._lock = FolderLock(self.path)
        try:
            found = load_manifest(self.path)
            if found is not None:
                end_leftovers(self.path, found)
            if found is not None and found.has_served:
                self._compare(found, nodes)
            else:
                self._discard_unserved()
                found = None
        except BaseException:
            self._lock.release()
            raise
        self.cluster_id = secrets.randbelow(2**63 - 1) + 1 if found is None else found.cluster_id
        self.has_served = found is not None

    def node_path(self, node_id: int) -> Path:
        """The folder of one node."""
        return node_folder(self.path, node_id)

    def new_manifest(self, members: tuple[Member, ...]) -> Manifest:
        """What this start writes down before it starts a node."""
        return Manifest(
            cluster_id=self.cluster_id,
            application=self._application.spec,
            application_identity=self._application.identity,
            import_paths=self._application.import_paths,
            members=members,
            has_served=self.has_served,
        )

    def close(self, *, remove: bool) -> None:
        """Let go of the folder; with `remove`, delete it if it is a temporary one. May be called twice."""
        if remove and self.is_temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()

    def _compare(self, found: Manifest, nodes: int) -> None:
        if found.application_identity != self._application.identity:
            raise ForeignDataError(
                f"{self.path} belongs to a cluster of {found.application}, not {self._application.spec}; "
                "start that application or choose another data folder"
            )
        if len(found.members) != nodes:
            raise ForeignDataError(
                f"{self.path} belongs to a cluster of {len(found.members)} nodes, not {nodes}; "
                "start that many or choose another data folder"
            )

    def _discard_unserved(self) -> None:
        """Start over after a first start that never came to serve: nothing in it was promised to anybody."""
        if (self.path / FILE_NAME).exists():
            for node_folder in self.path.glob("node-*"):
                shutil.rmtree(node_folder)
            if (self.path / WITNESS_FOLDER).exists():
                shutil.rmtree(self.path / WITNESS_FOLDER)
            (self.path / FILE_NAME).unlink()
        strangers = sorted(entry.name for entry in self.path.iterdir() if entry.name not in _OURS)
        if strangers:
            raise ForeignDataError(
                f"{self.path} holds other files ({', '.join(strangers[:3])}) and no cluster; "
                "choose a new or an empty data folder"
            )


_OURS = frozenset({"cluster.lock", "cluster.tmp", SUPERVISOR_LOG, FOLDER_NAME})


def _make(path: Path) -> None:
    try:
        make_folders(path)
    except FileExistsError as error:
        raise StorageError(f"{path} is a file; choose a folder") from error
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}; choose another data folder") from error


def end_leftovers(folder: Path, found: Manifest) -> int:
    """See off nodes of a supervisor that died, which end themselves or are killed, and remove its socket.

    Returns how many there were. The caller holds the folder.
    """
    alive = [record for record in found.processes if _runs_in(record, node_folder(folder, record.node_id))]
    deadline_s = time.monotonic() + _OWN_END_S
    while any(record.find() for record in alive) and time.monotonic() < deadline_s:
        time.sleep(_END_POLL_S)
    for record in alive:
        record.end(signal.SIGKILL, int(_OWN_END_S * 1000))
    if found.control_socket and Path(found.control_socket).parent.parent in {folder, Path(tempfile.gettempdir())}:
        remove_socket(found.control_socket)
    return len(alive)


def _runs_in(record: ProcessRecord, home: Path) -> bool:
    """Whether it is a node of this very folder: a copy of a folder names the nodes of the original."""
    process = record.find()
    if process is None:
        return False
    try:
        # An application may have gone elsewhere, and the folder may have been moved; hardly both.
        return os.path.samefile(f"/proc/{record.pid}/cwd", home) or str(home / CONFIG_NAME) in process.cmdline()
    except (OSError, psutil.Error):
        return False
