"""The actor that writes snapshots down and removes what they make superfluous."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    SaveSnapshot,
    SnapshotEnded,
    SnapshotRead,
    SnapshotRecorded,
    SnapshotSaved,
    SnapshotTaken,
)
from raftactors.app.state import STATE_VERSION
from raftactors.config import Limits
from raftactors.core.types import Snapshot
from raftactors.errors import ApplicationStateError, CorruptSnapshotError, StorageError
from raftactors.storage.purging import SegmentPurge
from raftactors.storage.snapshot_file import SnapshotHeader
from raftactors.storage.snapshots import SnapshotFolder

log = logging.getLogger("raftactors.node")


class SnapshotWriterActor(BatchActor):
    """Turns a frozen replica into a file while commands and heartbeats go on, one snapshot at a time.

    When the file is durable, the storage actor puts the record of it into the log; then what the record makes
    superfluous is removed here, and the others are told. A snapshot that cannot be written is given up, and the node
    goes on without it.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        folder: SnapshotFolder,
        wal_folder: Path,
        limits: Limits,
        storage: Mailbox,
        consensus: Mailbox,
        application: Mailbox,
        monitor: Mailbox,
    ) -> None:
        super().__init__(mailbox)
        self._folder = folder
        self._purge = SegmentPurge(folder.files, wal_folder)
        self._limits = limits
        self._storage = storage
        self._consensus = consensus
        self._application = application
        self._monitor = monitor
        self.handlers = {SaveSnapshot: self._on_save, SnapshotRecorded: self._on_recorded}

    def _on_save(self, save: SaveSnapshot) -> None:
        header = SnapshotHeader(
            self._folder.cluster_id, save.snapshot, STATE_VERSION, self._limits.snapshot_chunk_bytes
        )
        try:
            self._folder.save(header, self._watched(save.content))
        except (OSError, StorageError, ApplicationStateError) as error:
            log.error("no snapshot at index %d: %s", save.snapshot.index, error)
            self._end(SnapshotEnded(save.snapshot.index, error=str(error)))
            return
        self._storage.tell(SnapshotSaved(save.snapshot), Lane.STORAGE)

    def _watched(self, content: Iterator[bytes]) -> Iterator[bytes]:
        try:
            for piece in content:
                self.mailbox.still_working()
                yield piece
        finally:
            self._application.tell(SnapshotRead(), Lane.STORAGE)

    def _on_recorded(self, recorded: SnapshotRecorded) -> None:
        self._purge.add(recorded.released)
        try:
            segments = self._purge.run()
            snapshots = self._folder.purge(recorded.older_index)
        except OSError as error:
            # Nothing is wrong but that it takes room; what is left goes with a later snapshot.
            log.error("what a snapshot makes superfluous could not be removed: %s", error)
        else:
            if segments or snapshots:
                log.info("removed %d segments of the log and %d snapshots", segments, snapshots)
        if recorded.snapshot is not None:
            self._announce(recorded.snapshot)

    def _announce(self, snapshot: Snapshot) -> None:
        size = 0
        try:
            reader = self._folder.reader(snapshot.term, snapshot.index)
            size = reader.trailer.file_bytes
            reader.close()
        except (CorruptSnapshotError, OSError) as error:
            log.error("%s", error)
        self._consensus.tell(SnapshotTaken(snapshot), Lane.STORAGE)
        self._end(SnapshotEnded(snapshot.index, snapshot.term, size))

    def _end(self, ended: SnapshotEnded) -> None:
        self._application.tell(ended, Lane.STORAGE)
        self._monitor.tell(ended, Lane.CONTROL)
