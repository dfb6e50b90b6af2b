"""The history of one node, run through its application: what stands in the data folder, and a replica to move along."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from raftactors.app.application import Application
from raftactors.app.loading import load_application
from raftactors.app.time_travel import Step, TimeTravel
from raftactors.cluster.application import ApplicationReference, refer_to
from raftactors.cluster.process import NODE_MARK
from raftactors.cluster.working_folder import absolute
from raftactors.config import Limits, NodeConfig
from raftactors.core.types import Entry
from raftactors.errors import (
    ApplicationMismatchError,
    ConfigError,
    CorruptSnapshotError,
    CorruptWalError,
    IndexUnknownError,
)
from raftactors.storage.reading import StoredHistory, read_history
from raftactors.storage.record import LogEnd

OnProgress = Callable[[int, int], None]
"""Told of the entries run and of how many there are to run."""

PROGRESS_ENTRIES = 1_000


class History:
    """The log of a data folder and an application that can be put behind any index of it.

    `application` is `MODULE:CLASS` or `FILE.py:CLASS`; None takes the one that the node's own configuration names,
    which stands beside the data folder where a cluster made it. The folder is only read. Raises NoDataFolderError,
    CorruptWalError, StorageError, ApplicationUnknownError, ApplicationMismatchError, ConfigError.
    """

    def __init__(self, folder: Path, application: str | None = None, *, search_in: tuple[str, ...] = ()) -> None:
        self.stored: StoredHistory = read_history(folder)
        self.config = _config_beside(folder)
        self.warnings: list[str] = []
        if self.config is None:
            self.warnings.append(f"no config.json beside {folder}: the limits are taken to be the default ones")
        self._limits = Limits() if self.config is None else self.config.limits
        self._application = _load(folder, application, self.config, search_in)
        if self.stored.torn_bytes:
            self.warnings.append(
                f"{self.stored.tail_segment}: the last {self.stored.torn_bytes} bytes, from offset "
                f"{self.stored.torn_offset} on, are of a write that was cut off or is under way; nobody was told of "
                f"it, and the history ends before it, at index {self.stored.last_index}"
            )
        if self.stored.commit_index < self.stored.last_index:
            self.warnings.append(
                f"the log knows of commits up to index {self.stored.commit_index}; the entries behind it, up to "
                f"{self.stored.last_index}, may not have been committed, and are marked"
            )
        self._resources = ExitStack()
        self._travel: TimeTravel | None = None
        self._unusable: set[LogEnd] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the replica and its temporary folder back."""
        self._travel = None
        self._resources.close()

    @property
    def application_name(self) -> str:
        """The name of the class that is run."""
        return self._application.__name__

    @property
    def earliest_index(self) -> int:
        """The first index whose state can be shown: 0, or that of the oldest snapshot if the log begins later."""
        if self.stored.base.index == 0:
            return 0
        usable = [snapshot.index for snapshot in self.stored.snapshots if snapshot not in self._unusable]
        return min(usable, default=self.stored.last_index + 1)

    @property
    def last_index(self) -> int:
        """The last index of the log."""
        return self.stored.last_index

    @property
    def applied_index(self) -> int:
        """Where the replica stands now, or will begin."""
        return self.earliest_index if self._travel is None else self._travel.applied_index

    def base_before(self, index: int) -> int:
        """Where a run to `index` begins: the nearest snapshot at or before it, or 0."""
        return self._nearest(index).index

    def check_index(self, index: int) -> None:
        """Raise IndexUnknownError if the state behind `index` cannot be shown."""
        if self.earliest_index > self.last_index:
            self._begin(index)
        if not self.earliest_index <= index <= self.last_index:
            raise IndexUnknownError(
                f"index {index} is not in {self.stored.folder}: it holds the states behind index "
                f"{self.earliest_index} to {self.last_index}"
            )

    def go_to(self, index: int, on_progress: OnProgress | None = None) -> TimeTravel:
        """Put the replica behind `index` and return it. Raises IndexUnknownError if the folder does not reach there."""
        self.check_index(index)
        travel = self._travel
        base = self._nearest(index)
        if travel is None or not base.index <= travel.applied_index <= index:
            travel = self._begin(index)
        first, total = travel.applied_index, index - travel.applied_index
        for entry in self._entries(first, index):
            travel.skip(entry)
            done = entry.index - first
            if on_progress is not None and (done % PROGRESS_ENTRIES == 0 or done == total):
                on_progress(done, total)
        return travel

    def steps(self, last: int) -> Iterator[Step]:
        """Run the entries behind the replica's index up to `last`, and tell of each."""
        travel = self.go_to(self.earliest_index) if self._travel is None else self._travel
        for entry in self._entries(travel.applied_index, last):
            yield travel.step(entry)

    def is_committed(self, index: int) -> bool:
        """Whether the log itself says that the entry was committed."""
        return index <= self.stored.commit_index

    def _entries(self, after: int, last: int) -> Iterator[Entry]:
        first = self.stored.base.index + 1
        for position in range(after + 1 - first, last + 1 - first):
            yield self.stored.entries[position]

    def _nearest(self, index: int) -> LogEnd:
        usable = [found for found in self.stored.snapshots if found.index <= index and found not in self._unusable]
        return max(usable, key=lambda found: found.index, default=LogEnd())

    def _begin(self, index: int) -> TimeTravel:
        """A new replica, at the nearest snapshot at or before `index` that is good."""
        while True:
            base = self._nearest(index)
            if base.index < self.stored.base.index:
                raise CorruptSnapshotError(
                    f"{self.stored.folder}: the log begins behind index {self.stored.base.index} and no snapshot "
                    "before it is good; replay the folder of another node"
                )
            self.close()
            folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="raftactors-replay-"))
            travel = TimeTravel(self._application, limits=self._limits, folder=Path(folder) / "app")
            self._resources.callback(travel.close)
            self._travel = travel
            if not base.index:
                return travel
            try:
                travel.restore(self.stored.snapshot_content(base))
            except (CorruptSnapshotError, CorruptWalError) as error:
                self.warnings.append(f"{error}; an older one is taken")
                self._unusable.add(base)
            else:
                return travel


def _config_beside(folder: Path) -> NodeConfig | None:
    """The configuration of the node, where a cluster put it."""
    path = absolute(folder).parent / "config.json"
    if not path.is_file():
        return None
    return NodeConfig.from_json(path.read_text(encoding="utf-8"))


def _load(
    folder: Path, application: str | None, config: NodeConfig | None, search_in: tuple[str, ...]
) -> type[Application]:
    if application is not None:
        reference = refer_to(application, search_in=search_in)
        name = reference.spec.rpartition(":")[2]
        if config is not None and config.application.rpartition(":")[2] != name:
            raise ApplicationMismatchError(
                f"{folder} is the data folder of {config.application}, not of {application}; name that one, or leave "
                "--app out"
            )
    elif config is not None:
        reference = ApplicationReference(spec=config.application, import_paths=config.import_paths)
    else:
        raise ConfigError(f"nothing beside {folder} says which application it is of; name it: --app MODULE:CLASS")
    with _marked_as_node():
        return load_application(reference.spec, reference.import_paths)


@contextmanager
def _marked_as_node() -> Iterator[None]:
    """A program that starts a cluster when it is imported must not do so now."""
    before = os.environ.get(NODE_MARK)
    os.environ[NODE_MARK] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[NODE_MARK]
        else:
            os.environ[NODE_MARK] = before
