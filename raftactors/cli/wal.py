"""`raftactors wal verify`, `dump` and `repair`: the log of one node, looked at while the node is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raftactors.cli.options import AsJson
from raftactors.cli.output import print_json
from raftactors.cli.overview import CommandGroup
from raftactors.cli.tables import Column, Table
from raftactors.cli.terminal import make_console, output_width
from raftactors.errors import ExitCode
from raftactors.storage import Verdict
from raftactors.storage.inspection import LogRecord, WalInspection, inspect_wal, repair_wal

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="The data folder of one node, the one with IDENTITY in it.")
]

_COLUMNS = (
    Column("segment", rank=5, width=37),
    Column("offset", rank=3, width=10, is_right=True),
    Column("batch", rank=4, width=8, is_right=True),
    Column("kind", width=10),
    Column("term", width=6, is_right=True),
    Column("index", width=10, is_right=True),
    Column("bytes", rank=2, width=8, is_right=True),
    Column("detail", rank=1, width=24),
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(cls=CommandGroup, help="Look at the log of a stopped node, and repair it.")
    for command in (verify, dump, repair):
        group.command()(command)
    app.add_typer(group, name="wal")


def verify(folder: Folder, as_json: AsJson = False) -> int:
    """Check every byte of the log and change nothing.

    Ends with 0 for a good log, 17 for one that ends in a write which was cut off (a start repairs that by itself), 15
    for damage, 13 for a foreign segment, 16 for what cannot be read, 14 while a node has the folder open.
    """
    found = inspect_wal(folder)
    torn = found.verdict is Verdict.TORN
    if as_json:
        print_json(_document(found))
    elif torn:
        print(
            f"torn: {found.tail_segment}: {found.torn_bytes} bytes from offset {found.stop} on (index "
            f"{found.last_index + 1} and up) are of a write that was cut off; nobody was told of it; the next start or "
            "`raftactors wal repair` removes them"
        )
    else:
        print(f"good: {_summary(found)}")
    return ExitCode.DATA_TORN if torn else ExitCode.OK


def dump(
    folder: Folder,
    first: Annotated[
        int, typer.Option("--from", metavar="INDEX", min=0, help="Only records of entries from this index on.")
    ] = 0,
    last: Annotated[
        int | None, typer.Option("--to", metavar="INDEX", min=0, help="Only records of entries up to this index.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List the records of the log: as a table, or with --json as one object a line.

    With --from or --to only entries and snapshots of those indexes. A damaged log is listed up to the damage.
    """
    ranged = first > 0 or last is not None
    console, table = make_console(), Table(_COLUMNS, (), output_width())
    if not as_json:
        console.print(table.header)

    def show(record: LogRecord) -> None:
        if ranged and not (record.index and first <= record.index <= (record.index if last is None else last)):
            return
        if as_json:
            print_json(record._asdict())
        else:
            console.print(table.line([str(field) for field in record]))

    try:
        found = inspect_wal(folder, show)
    finally:
        for note in () if as_json else table.note:
            console.print(note)
    return ExitCode.DATA_TORN if found.verdict is Verdict.TORN else ExitCode.OK


def repair(folder: Folder, as_json: AsJson = False) -> int:
    """Cut off the end of a write that nobody was told of; the original segment stays beside it as .broken.

    Anything else is not repaired: the command ends as `verify` does.
    """
    found, kept = repair_wal(folder)
    if as_json:
        print_json(_document(found) | {"kept": None if kept is None else str(kept)})
    elif found.verdict is Verdict.TORN:
        print(
            f"cut off {found.torn_bytes} bytes at offset {found.stop} of {found.tail_segment}; the original is {kept}"
        )
    else:
        print(f"nothing to repair: {_summary(found)}")
    return ExitCode.OK


def _summary(found: WalInspection) -> str:
    indexes = f"index {found.first_index} to {found.last_index}"
    if found.first_index > found.last_index:
        indexes = "no entries"
    return (
        f"cluster {found.identity.cluster_id}, node {found.identity.node_id}: {indexes}, term {found.last_term}, "
        f"{found.batches} batches in {found.segments} segments, {found.bytes} bytes"
    )


def _document(found: WalInspection) -> dict[str, object]:
    return {
        "verdict": found.verdict.value,
        "cluster_id": found.identity.cluster_id,
        "node_id": found.identity.node_id,
        "first_index": found.first_index,
        "last_index": found.last_index,
        "last_term": found.last_term,
        "segments": found.segments,
        "batches": found.batches,
        "bytes": found.bytes,
        "file": str(found.tail_segment),
        "offset": found.stop,
        "torn_bytes": found.torn_bytes,
    }
