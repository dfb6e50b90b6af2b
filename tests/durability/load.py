"""Writers that go on while nodes are killed, and the account of what became of every write."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from raftactors import LocalCluster
from raftactors.config import Limits
from tests.cluster.leader_kills import Account, Writer, await_progress, check, replicas_equal

CLIENT_TIMEOUT_MS = 90_000
"""Longer than any outage of a test, so that no write is left with an unknown outcome."""


def eventful_limits(segment_bytes: int, *, snapshot_entries: int = 100) -> Limits:
    """Small, so that a run meets every call of a change of segments, a snapshot and a purge many times."""
    return Limits(segment_bytes=segment_bytes, snapshot_entries=snapshot_entries, trailing_entries=10)


class Load:
    """Writes to a cluster of `Ledger`s from `writers` clients until the block ends."""

    def __init__(self, cluster: LocalCluster, *, writers: int = 2, inflight: int = 8) -> None:
        self._cluster = cluster
        self._progress = threading.Condition()
        self.clients = [cluster.client(timeout_ms=CLIENT_TIMEOUT_MS) for _ in range(writers)]
        self.team = [
            Writer(f"writer-{number}", client, inflight, self._progress) for number, client in enumerate(self.clients)
        ]
        self._sent: dict[str, int] | None = None

    def __enter__(self) -> Self:
        for writer in self.team:
            writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish(abandon=error is not None)

    def await_progress(self, writes: int) -> None:
        """Wait until every writer has so many more acknowledgements."""
        await_progress(self.team, self._progress, writes)

    def await_acknowledged(self, total: int) -> None:
        """Wait until all writers together have `total` acknowledgements, as long as they go on."""
        while self.acknowledged < total:
            self.await_progress(1 + (total - self.acknowledged) // len(self.team) // 8)

    @property
    def acknowledged(self) -> int:
        """Acknowledgements so far."""
        return sum(len(writer.acknowledged) for writer in self.team)

    def finish(self, *, abandon: bool = False) -> None:
        """Stop writing and wait for what is under way; with `abandon` give that up."""
        if self._sent is None:
            if abandon:
                for client in self.clients:
                    client.close()
            self._sent = {writer.name: writer.finish() for writer in self.team}

    def account(self, kills: int) -> Account:
        """Read everything back and account for it.

        By a client of its own: where acknowledged entries were lost, as a planted bug brings about, the session of an
        older one may have been opened again by another.
        """
        self.finish()
        assert self._sent is not None
        account = Account(kills=kills)
        with self._cluster.client(timeout_ms=CLIENT_TIMEOUT_MS) as reader:
            check(self.team, self._sent, reader, account)
            account.replicas_equal = replicas_equal(reader, len(self._cluster.nodes))
        return account
