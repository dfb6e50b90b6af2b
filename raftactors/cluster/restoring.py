"""A new cluster out of a snapshot: the same state, other members, another identity."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import NamedTuple

from raftactors.cluster.application import ApplicationReference
from raftactors.cluster.manifest import Manifest
from raftactors.cluster.private_files import make_folders
from raftactors.config import Limits, Member
from raftactors.core.types import ConfState, HardState, Snapshot
from raftactors.errors import ForeignDataError
from raftactors.storage import RealFiles, WalBatch, open_data_dir
from raftactors.storage.inspection import ReadOnlyFiles
from raftactors.storage.opening import SNAPSHOT_FOLDER
from raftactors.storage.snapshot_file import SnapshotReader
from raftactors.storage.snapshots import SnapshotFolder, open_snapshot_file


class RestoredCluster(NamedTuple):
    """What was made: a data folder that `raftactors up` continues."""

    cluster_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    term: int
    nodes: int


def restore_cluster(
    snapshot_file: Path, folder: Path, *, nodes: int, application: ApplicationReference
) -> RestoredCluster:
    """Make a data folder for a cluster of `nodes` that begins with the state in `snapshot_file`.

    It gets a new cluster id, so no member and no client of the old cluster is ever taken for one of the new. Raises
    CorruptSnapshotError or StorageError for the file, ForeignDataError if the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ForeignDataError(f"{folder} is not empty; restore into a new folder")
    reader = open_snapshot_file(ReadOnlyFiles(), snapshot_file)
    try:
        reader.verify()
        cluster_id = secrets.randbelow(2**63 - 1) + 1
        make_folders(folder)
        for node_id in range(1, nodes + 1):
            _restore_node(reader, folder / f"node-{node_id}" / "data", cluster_id, node_id, nodes)
        old = reader.snapshot
    finally:
        reader.close()
    members = tuple(
        Member(node_id=number, peer_address="127.0.0.1:0", client_address="127.0.0.1:0")
        for number in range(1, nodes + 1)
    )
    # Last, so that a folder which was not finished is not taken for a cluster that has served.
    Manifest(
        cluster_id=cluster_id,
        application=application.spec,
        application_identity=application.identity,
        import_paths=application.import_paths,
        members=members,
        has_served=True,
    ).save(folder)
    return RestoredCluster(cluster_id, old.index, old.term, nodes)


def _restore_node(reader: SnapshotReader, path: Path, cluster_id: int, node_id: int, nodes: int) -> None:
    """A data folder as that of a node which has just received the snapshot."""
    files = RealFiles()
    opened = open_data_dir(
        path, cluster_id=cluster_id, node_id=node_id, segment_bytes=Limits().segment_bytes, files=files
    )
    try:
        old = reader.snapshot
        snapshot = Snapshot(old.index, old.term, ConfState(tuple(range(1, nodes + 1))))
        header = reader.header._replace(cluster_id=cluster_id, snapshot=snapshot)
        snapshots = SnapshotFolder(files, path / SNAPSHOT_FOLDER, cluster_id=cluster_id)
        snapshots.save(header, map(bytes, reader.chunks()))
        opened.wal.append([WalBatch(HardState(old.term, 0, old.index), (), snapshot)])
    finally:
        opened.close()
