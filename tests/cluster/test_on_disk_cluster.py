"""Three nodes with the bank on SQLite, killed under load: each acknowledged deposit is in all databases, once."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from raftactors import Limits, LocalCluster
from raftactors.client import Client
from raftactors.cluster.rebuilding import rebuild_node

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sqlite_bank.py"
STEP_TIMEOUT_S = 30.0
OFTEN = Limits(snapshot_entries=20, trailing_entries=4)
"""Snapshots all the time, so that nodes are killed in them and restarted ones are caught up by them."""

WRITERS = 3
INFLIGHT = 8


class Writer:
    """Deposits 1 into an account of its own, some at a time, and keeps the balances that come back."""

    def __init__(self, client: Client, owner: str, progress: threading.Condition) -> None:
        self.owner = owner
        self.balances: list[int] = []
        self.failure: BaseException | None = None
        self._client = client
        self._progress = progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=owner)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for reply in [self._client.submit("deposit", self.owner, 1) for _ in range(INFLIGHT)]:
                    balance = reply.get()
                    with self._progress:
                        self.balances.append(balance)
                        self._progress.notify_all()
        except BaseException as error:
            self.failure = error
            raise

    def stop(self) -> None:
        """End after what is under way."""
        self._stop.set()
        self._thread.join(STEP_TIMEOUT_S)
        assert not self._thread.is_alive()
        assert self.failure is None


def await_progress(writers: list[Writer], progress: threading.Condition) -> None:
    """Wait until every writer has twenty more acknowledgements than now."""
    with progress:
        goals = [(writer, len(writer.balances) + 20) for writer in writers]
        assert progress.wait_for(lambda: all(len(writer.balances) >= goal for writer, goal in goals), STEP_TIMEOUT_S), [
            writer.failure for writer in writers
        ]


def accounts_of(data_dir: Path, node_id: int) -> dict[str, int]:
    """What the database of one node holds, and that the node's own rows stand beside it."""
    path = data_dir / f"node-{node_id}" / "data" / "app" / "bank.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM node_rows WHERE key = ?", (b"p",)).fetchone() == (1,)
        return dict(database.execute("SELECT owner, balance FROM accounts"))


def await_equal_replicas(client: Client) -> None:
    """Wait until all nodes stand at the same index; then they must hold the same."""
    client.query("total")  # With the first answer the client learns where the nodes are.
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while time.monotonic() < deadline_s:
        documents = [client.admin("state_digest", node=node_id) for node_id in (1, 2, 3)]
        if len({document["applied"] for document in documents}) == 1:
            assert len({document["state_digest"] for document in documents}) == 1
            return
    raise AssertionError(f"the replicas never met: {documents}")


@pytest.mark.long
def test_every_deposit_once_through_kills(tmp_path: Path) -> None:
    progress = threading.Condition()
    with LocalCluster(3, f"{EXAMPLE}:SqliteBank", data_dir=tmp_path / "data", limits=OFTEN) as cluster:
        cluster.wait_leader()
        writers = [
            Writer(cluster.client(timeout_ms=60_000), owner, progress) for owner in map(str, range(1, WRITERS + 1))
        ]
        try:
            for victims in ("leader", "all"):
                await_progress(writers, progress)
                leader = cluster.wait_leader()
                killed = {"leader": [leader], "all": [1, 2, 3]}[victims]
                for node_id in killed:
                    cluster.kill(node_id)
                if victims != "all":
                    await_progress(writers, progress)
                for node_id in killed:
                    cluster.restart(node_id)
            await_progress(writers, progress)
        finally:
            for writer in writers:
                writer.stop()
        with cluster.client() as client:
            await_equal_replicas(client)
            snapshots = [client.admin("status", node=node_id)["snapshot"] for node_id in (1, 2, 3)]
    assert all(snapshot["index"] and not snapshot["error"] for snapshot in snapshots), snapshots
    for writer in writers:
        # Every balance once: no deposit was executed twice, and none was lost between two.
        assert sorted(writer.balances) == list(range(1, len(writer.balances) + 1))
    expected = {writer.owner: len(writer.balances) for writer in writers}
    assert [accounts_of(tmp_path / "data", node_id) for node_id in (1, 2, 3)] == [expected] * 3
    # A node whose database and log are lost gets both from the others.
    rebuild_node(tmp_path / "data", 2)
    assert not (tmp_path / "data" / "node-2" / "data" / "app").exists()
    with LocalCluster(3, f"{EXAMPLE}:SqliteBank", data_dir=tmp_path / "data", limits=OFTEN) as cluster:
        cluster.wait_leader()
        with cluster.client() as client:
            await_equal_replicas(client)
    assert accounts_of(tmp_path / "data", 2) == expected
