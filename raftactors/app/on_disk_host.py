"""The replica of an application that keeps its own data: one transaction a batch, nothing executed twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from raftactors.app.application import Application
from raftactors.app.host import ApplicationHost, CommandObserver, FrozenReplica
from raftactors.app.on_disk import OnDiskApplication
from raftactors.app.stored_sessions import Progress, StoredSessionTable
from raftactors.config import Limits
from raftactors.core.types import Entry
from raftactors.errors import WAY_OUT_OF_DAMAGE, ApplicationStateError, CompactedError, InvariantViolation

_T = TypeVar("_T")


def make_host(
    application: Application,
    *,
    folder: Path,
    limits: Limits,
    node_id: int,
    observer: CommandObserver | None = None,
) -> ApplicationHost:
    """The host for an application of either kind; `folder` is made and used only by one that keeps its own data.

    Raises ApplicationStateError if the store cannot be opened, or a first state cannot be snapshotted.
    """
    if isinstance(application, OnDiskApplication):
        return OnDiskHost(application, folder=folder, limits=limits, node_id=node_id, observer=observer)
    return ApplicationHost(application, limits=limits, node_id=node_id, observer=observer)


class OnDiskHost(ApplicationHost):
    """Applies each batch of entries in one transaction of the application's store.

    After a restart consensus hands out again what the store already holds: the core knows the applied index of its own
    snapshot only, and membership entries have to be applied to it. Entries up to the applied index of the store are
    passed over here. That index may be above the commit index that the log's hard state holds, since commit indexes
    are not synced for their own sake. The entries were committed all the same, what is committed once stays so (Raft
    paper, Leader Completeness), and they are in this node's log, since only durable entries are applied.
    """

    def __init__(
        self,
        application: OnDiskApplication,
        *,
        folder: Path,
        limits: Limits,
        node_id: int,
        observer: CommandObserver | None = None,
    ) -> None:
        self._store = application
        self._folder = folder
        self._in_transaction = False
        self._passed_over_index = 0
        super().__init__(application, limits=limits, node_id=node_id, observer=observer)

    @property
    def is_replaying(self) -> bool:
        return self._passed_over_index < self._kept.applied_index

    def apply(self, entry: Entry, *, origin_incarnation: int) -> list[tuple[int, bytes]]:
        if entry.index <= self._kept.applied_index:
            if entry.index == self._kept.applied_index and entry.term != self._kept.applied_term:
                raise InvariantViolation(
                    f"the application's store holds entry {self._kept.applied_term}/{entry.index}, and "
                    f"{entry.term}/{entry.index} was committed"
                )
            self._passed_over_index = entry.index
            return []
        self._begin_transaction()
        return super().apply(entry, origin_incarnation=origin_incarnation)

    def commit(self) -> None:
        """End the transaction of the entries applied since the last call, if there are any.

        Raises ApplicationStateError if the store fails; after that the node must stop.
        """
        if self._in_transaction:
            progress = Progress(self._applied_index, self._applied_term, self._now_ms, self._digest)
            rows = self._sessions.take_changes(progress)
            self._call("commit a batch", lambda: self._store.commit(rows))
            self._in_transaction = False

    def freeze(self) -> FrozenReplica:
        """As for any application; a failure of the store, now or while `content` is read, is ApplicationStateError."""
        index, term, content = self._call("set its state aside", super().freeze)
        return FrozenReplica(index, term, self._read_all(content))

    def restore_from(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Become the replica that made the snapshot, in one transaction that is committed on return.

        The snapshot may end before what the store holds: another node sends it to one whose log knows of fewer commits.
        """
        self._begin_transaction()
        super().restore_from(chunks)
        self.commit()
        self._kept = Progress()

    def close(self) -> None:
        self._call("close", self._store.close)

    def check_log(self, last_index: int, term_of: Callable[[int], int]) -> None:
        kept = self._kept
        if kept.applied_index > last_index:
            raise ApplicationStateError(
                f"{self._folder}: the application's store holds entries up to index {kept.applied_index}, but the log "
                f"ends at {last_index}: one of them is a copy from another time, or synced data was lost; "
                f"{WAY_OUT_OF_DAMAGE}"
            )
        try:
            term = term_of(kept.applied_index)
        except CompactedError:
            return  # The snapshot in its place will be restored.
        if kept.applied_index and term != kept.applied_term:
            raise ApplicationStateError(
                f"{self._folder}: the application's store holds entry {kept.applied_term}/{kept.applied_index}, but "
                f"the log has {term}/{kept.applied_index}: they do not belong together; {WAY_OUT_OF_DAMAGE}"
            )

    def _make_sessions(self, limits: Limits) -> StoredSessionTable:
        self._sessions: StoredSessionTable = StoredSessionTable(
            sessions_max=limits.sessions_max,
            session_ttl_ms=limits.session_ttl_ms,
            inflight_max=limits.session_inflight_max,
        )
        return self._sessions

    def _begin_state(self) -> None:
        """Take up the work where the store is. The state is not snapshotted here: it may be large."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._folder.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ApplicationStateError(
                f"{self._folder} cannot be made: {error.strerror}; repair the disk or the permissions and start again"
            ) from error
        try:
            self._kept = self._sessions.load(self._call("open", lambda: self._store.open(self._folder)))
        except BaseException:
            self._store.close()
            raise
        self._applied_index, self._applied_term, self._now_ms, self._digest = self._kept

    def _begin_transaction(self) -> None:
        if not self._in_transaction:
            self._call("begin a batch", self._store.begin)
            self._in_transaction = True

    def _read_all(self, content: Iterator[bytes]) -> Iterator[bytes]:
        while (piece := self._call("read its state", lambda: next(content, None))) is not None:
            yield piece

    def _call(self, what: str, method: Callable[[], _T]) -> _T:
        try:
            return method()
        except ApplicationStateError:
            raise
        except Exception as error:
            raise ApplicationStateError(
                f"the store of {type(self._store).__name__} in {self._folder} could not {what}: "
                f"{type(error).__name__}: {error}; repair the cause and start the node again"
            ) from error
