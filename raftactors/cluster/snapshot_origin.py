"""Which application a snapshot is of: the file alone does not say, but what stands beside it does.

A snapshot in the data folder of a node is described by the node's configuration. A copy that `raftactors snapshot save`
made is described by a file beside it, its name is that of the copy with `.json` after it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from raftactors.cluster.application import ApplicationReference, refer_to
from raftactors.cluster.manifest import FILE_NAME, Manifest
from raftactors.cluster.node_folder import CONFIG_NAME
from raftactors.cluster.private_files import replace_text
from raftactors.errors import ApplicationMismatchError, ConfigError, ForeignDataError
from raftactors.storage.inspection import ReadOnlyFiles
from raftactors.storage.snapshot_file import SnapshotHeader
from raftactors.storage.snapshots import open_snapshot_file

FORMAT = 1
_BYTES_MAX = 1024 * 1024


class SnapshotOrigin(NamedTuple):
    """The application of a snapshot, and the file that names it."""

    application: ApplicationReference
    named_in: Path


def origin_path(snapshot_file: Path) -> Path:
    """Where a copy of a snapshot is described."""
    return snapshot_file.with_name(snapshot_file.name + ".json")


def describe_copy(snapshot_file: Path, manifest: Manifest) -> None:
    """Write down beside a copy which application and which snapshot it is of. Raises OSError, StorageError."""
    header = _header(snapshot_file)
    document = {
        "format": FORMAT,
        "application": manifest.application,
        "import_paths": list(manifest.import_paths),
        "cluster_id": header.cluster_id,
        "term": header.snapshot.term,
        "index": header.snapshot.index,
    }
    replace_text(origin_path(snapshot_file), json.dumps(document, indent=2, sort_keys=True) + "\n")


def application_of(snapshot_file: Path, named: str | None, *, search_in: tuple[str, ...] = ()) -> ApplicationReference:
    """The application to restore a snapshot with: the one it is of, which `named` must not contradict.

    `named` is `MODULE:CLASS`, `FILE.py:CLASS` or None. Raises ConfigError if nothing says which application it is,
    ApplicationMismatchError if it is another one than `named`, ForeignDataError if the description beside it is of
    another snapshot, CorruptSnapshotError or StorageError for the file.
    """
    header = _header(snapshot_file)
    origin = _find(snapshot_file, header)
    if named is not None:
        reference = refer_to(named, search_in=search_in)
        if origin is not None and origin.application.identity != reference.identity:
            raise ApplicationMismatchError(
                f"{snapshot_file} is a snapshot of {origin.application.spec} ({origin.named_in} says so), not of "
                f"{named}; leave --app out, or, if the class has another name now, restore a copy of the snapshot "
                "file that stands alone in a folder"
            )
        return reference
    if origin is None:
        raise ConfigError(
            f"nothing beside {snapshot_file} says which application the snapshot is of; name it: --app MODULE:CLASS "
            "(raftactors.app.kv:KeyValue is the key-value application)"
        )
    return origin.application


def _header(snapshot_file: Path) -> SnapshotHeader:
    reader = open_snapshot_file(ReadOnlyFiles(), snapshot_file)
    try:
        return reader.header
    finally:
        reader.close()


def _find(snapshot_file: Path, header: SnapshotHeader) -> SnapshotOrigin | None:
    file = snapshot_file.absolute()
    description = _read(origin_path(file))
    if description is not None:
        said = (description.get("cluster_id"), description.get("term"), description.get("index"))
        if said != (header.cluster_id, header.snapshot.term, header.snapshot.index):
            raise ForeignDataError(
                f"{origin_path(snapshot_file)} describes another snapshot than {snapshot_file}; put the right one "
                "beside it, or remove it and name the application: --app MODULE:CLASS"
            )
        return _origin(description, origin_path(file))
    # DIR/node-1/data/snap/FILE is described by DIR/node-1/config.json and DIR/cluster.json.
    for depth, name in ((2, CONFIG_NAME), (3, FILE_NAME)):
        if len(file.parents) > depth:
            path = file.parents[depth] / name
            document = _read(path)
            if document is not None and document.get("cluster_id") == header.cluster_id:
                return _origin(document, path)
    return None


def _read(path: Path) -> dict[str, object] | None:
    """The file as a JSON object; None if it is not there or is something else."""
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        document = json.loads(content) if len(content) <= _BYTES_MAX else None
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _origin(document: dict[str, object], path: Path) -> SnapshotOrigin | None:
    spec, paths = document.get("application"), document.get("import_paths")
    if not isinstance(spec, str) or not isinstance(paths, list) or not all(isinstance(item, str) for item in paths):
        return None
    return SnapshotOrigin(ApplicationReference(spec=spec, import_paths=tuple(paths)), path)
