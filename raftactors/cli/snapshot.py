"""`raftactors snapshot list`, `verify`, `save` and `restore`."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from raftactors.cli.options import DEFAULT_DATA_DIR, AsJson, DataDir, TimeoutMs
from raftactors.cli.output import print_json
from raftactors.cli.overview import CommandGroup
from raftactors.cli.tables import Column, Table
from raftactors.cli.target import Address, find_target
from raftactors.cli.terminal import make_console, output_width, visible
from raftactors.cluster.local import NODES_MAX
from raftactors.cluster.node_folder import data_folder
from raftactors.cluster.private_files import create_file
from raftactors.cluster.restoring import restore_cluster
from raftactors.cluster.snapshot_origin import application_of, describe_copy, origin_path
from raftactors.cluster.working_folder import search_here
from raftactors.errors import ConfigError, StorageError
from raftactors.storage.inspection import ReadOnlyFiles
from raftactors.storage.opening import SNAPSHOT_FOLDER
from raftactors.storage.snapshot_file import SnapshotReader, parse_snapshot_name
from raftactors.storage.snapshots import open_snapshot_file

Place = Annotated[
    Path, typer.Argument(metavar="PATH", help="The data folder of one node, a folder of snapshots, or one file.")
]
SnapshotFile = Annotated[Path, typer.Argument(metavar="FILE", help="The snapshot.")]

SAVE_TIMEOUT_MS = 60_000
_COLUMNS = (
    Column("file"),
    Column("term", rank=2),
    Column("index"),
    Column("bytes", rank=1),
    Column("chunks", rank=5),
    Column("cluster", rank=4),
    Column("members", rank=3),
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(cls=CommandGroup, help="Take, check and restore snapshots.")
    group.command("list")(list_snapshots)
    for command in (verify, save, restore):
        group.command()(command)
    app.add_typer(group, name="snapshot")


def list_snapshots(place: Place, as_json: AsJson = False) -> None:
    """Show the snapshots of a data folder; their contents are not checked."""
    rows = [_describe(reader) for reader in _readers(place)]
    if as_json:
        print_json({"snapshots": rows})
        return
    width = output_width()
    cells = [[visible(_cell(row[column.name])) for column in _COLUMNS] for row in rows]
    if width is not None:
        # The folder was named by who looks at it.
        cells = [[visible(Path(row["file"]).name), *line[1:]] for row, line in zip(rows, cells, strict=True)]
    table, console = Table(_COLUMNS, cells, width), make_console()
    for line in [table.header, *map(table.line, cells), *table.note]:
        console.print(line)


def verify(place: Place, as_json: AsJson = False) -> None:
    """Check every byte of one snapshot, or of all in a data folder, and change nothing.

    Ends with 0 if they are good, 15 for damage, 16 for what cannot be read.
    """
    rows = []
    for reader in _readers(place):
        reader.verify()
        rows.append(_describe(reader))
        if not as_json:
            print(visible(f"good: {reader.path}: index {reader.snapshot.index}, {reader.trailer.file_bytes} bytes"))
    if as_json:
        print_json({"good": rows})
    elif not rows:
        print("no snapshots")


def save(
    context: typer.Context,
    *,
    node: Annotated[
        int | None, typer.Option("--node", metavar="NODE", help="The node to take it. Default: the leader.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Copy it to this file, with the application in FILE.json beside."),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    addresses: Address = None,
    timeout_ms: TimeoutMs = SAVE_TIMEOUT_MS,
    as_json: AsJson = False,
) -> None:
    """Let a running node take a snapshot now; returns when it is durable and shows its file, if that is here."""
    target = find_target(context, data_dir, addresses)
    if to is not None and target.manifest is None:
        raise ConfigError("--to copies a file of this machine, and --address may name another; copy it on that host")
    for path in () if to is None else (to, origin_path(to)):
        if path.exists():
            raise ConfigError(f"{path} exists; name a new file")
    with target.client(timeout_ms) as client:
        known = sorted(client.status())  # The nodes tell who they are.
        chosen = (client.leader_id or known[0]) if node is None else node
        if chosen not in known:
            raise ConfigError(f"node {chosen} is not one of the cluster, which has {known}; see `raftactors status`")
        document: dict[str, Any] = client.admin("snapshot", node=chosen, timeout_ms=timeout_ms)
    if target.manifest is None:
        file, shown = None, f"node {chosen}, {SNAPSHOT_FOLDER}/ of its data folder"
    else:
        file = _saved_file(data_folder(data_dir, chosen), document["index"], to)
        if to is not None:
            describe_copy(to, target.manifest)
        shown = str(file)
    if as_json:
        print_json({"node_id": chosen, "index": document["index"], "file": None if file is None else str(file)})
    else:
        print(visible(f"{shown}: index {document['index']}"))


def _saved_file(data: Path, index: int, to: Path | None) -> Path:
    """The file of the snapshot at an index, or its copy at `to`, which has been checked."""
    file = next(path for path in sorted((data / SNAPSHOT_FOLDER).iterdir()) if _index_of(path) == index)
    if to is None:
        return file
    with file.open("rb") as source, create_file(to) as target:
        shutil.copyfileobj(source, target)
    reader = open_snapshot_file(ReadOnlyFiles(), to)
    try:
        reader.verify()
    finally:
        reader.close()
    return to


def restore(
    file: SnapshotFile,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data folder to make; new or empty.")],
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", min=1, max=NODES_MAX, help="Number of nodes.")] = 3,
    application: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:CLASS", help="The application. Default: the one that it is of."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the data folder of a new cluster, with a new cluster id, that begins with the state of a snapshot.

    The application is the one that the snapshot is of, where the folder that it stands in, or the file FILE.json
    beside it, says so. Anywhere else --app has to name it.
    """
    reference = application_of(file, application, search_in=search_here())
    made = restore_cluster(file, folder, nodes=nodes, application=reference)
    if as_json:
        print_json(made._asdict() | {"application": reference.spec})
    else:
        print(visible(f"cluster {made.cluster_id}: {nodes} nodes of {reference.spec} at index {made.index}"))
        print(visible(f"start it with `raftactors up --data-dir {shlex.quote(str(folder))}`"))


def _readers(place: Path) -> list[SnapshotReader]:
    """The snapshots at a place, each open with a header and a trailer that hold, the oldest first."""
    if place.is_file():
        return [open_snapshot_file(ReadOnlyFiles(), place)]
    folder = place / SNAPSHOT_FOLDER if (place / SNAPSHOT_FOLDER).is_dir() else place
    try:
        names = [path for path in folder.iterdir() if parse_snapshot_name(path.name)]
    except OSError as error:
        raise StorageError(f"{folder} cannot be read: {error.strerror}; name a node's data folder") from error
    return [open_snapshot_file(ReadOnlyFiles(), path) for path in sorted(names, key=_index_of)]


def _index_of(path: Path) -> int:
    parsed = parse_snapshot_name(path.name)
    return -1 if parsed is None else parsed[1]


def _describe(reader: SnapshotReader) -> dict[str, Any]:
    snapshot = reader.snapshot
    conf = snapshot.conf_state
    return {
        "file": str(reader.path),
        "term": snapshot.term,
        "index": snapshot.index,
        "bytes": reader.trailer.file_bytes,
        "chunks": reader.trailer.chunks,
        "cluster": reader.header.cluster_id,
        "members": sorted({*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next}),
    }


def _cell(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
