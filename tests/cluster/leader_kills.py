"""Kill the leader with SIGKILL again and again under load, and account for every write.

Run as a script for the long version: python tests/cluster/leader_kills.py --kills 100
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors import LocalCluster  # noqa: E402
from raftactors.client import Client, Reply  # noqa: E402
from raftactors.config import Limits  # noqa: E402
from tests.cluster.ledger import Ledger  # noqa: E402

STEP_TIMEOUT_S = 30.0
READ_PART = 1_000


class Writer:
    """Keeps `inflight` appends under way on one client, and notes which were acknowledged."""

    def __init__(self, name: str, client: Client, inflight: int, progress: threading.Condition) -> None:
        self.name = name
        self.acknowledged: list[int] = []
        self.failed: dict[int, str] = {}
        self._client = client
        self._room = threading.Semaphore(inflight)
        self._progress = progress
        self._stop = threading.Event()
        self._sent = 0
        self._thread = threading.Thread(target=self._write, name=name)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> int:
        """Stop sending, wait for the rest, and return how many numbers were sent."""
        self._stop.set()
        self._thread.join(STEP_TIMEOUT_S)
        assert not self._thread.is_alive(), f"{self.name} hangs"
        with self._progress:
            settled = self._progress.wait_for(
                lambda: len(self.acknowledged) + len(self.failed) == self._sent, STEP_TIMEOUT_S
            )
        assert settled, f"{self.name}: {self._sent - len(self.acknowledged)} writes never came to an end"
        return self._sent

    def _write(self) -> None:
        while not self._stop.is_set():
            if not self._room.acquire(timeout=0.1):
                continue
            number = self._sent
            self._sent += 1
            self._client.submit("append", self.name, number).add_done_callback(partial(self._note, number))

    def _note(self, number: int, reply: Reply) -> None:
        error = reply.error()
        with self._progress:
            if error is None:
                self.acknowledged.append(number)
            else:
                self.failed[number] = f"{type(error).__name__}: {error}"
            self._progress.notify_all()
        self._room.release()


@dataclass
class Account:
    """What came out."""

    kills: int = 0
    acknowledged: int = 0
    failed: int = 0
    lost: int = 0
    repeated: int = 0
    disordered: int = 0
    replicas_equal: bool = False
    gaps_ms: list[float] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.replicas_equal and not (self.lost or self.repeated or self.disordered)

    def as_dict(self) -> dict[str, Any]:
        gaps = sorted(self.gaps_ms)
        return {
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "failed": self.failed,
            "lost": self.lost,
            "repeated": self.repeated,
            "disordered": self.disordered,
            "replicas_equal": self.replicas_equal,
            "gap_ms_p50": round(statistics.median(gaps), 1) if gaps else None,
            "gap_ms_max": round(gaps[-1], 1) if gaps else None,
        }


def run(*, kills: int, nodes: int = 3, writers: int = 4, inflight: int = 16, show: bool = False) -> Account:
    """Do it, and account for it."""
    account = Account(kills=kills)
    limits = Limits(segment_bytes=4 * 1024 * 1024)
    with LocalCluster(nodes, Ledger, limits=limits) as cluster:
        cluster.wait_leader()
        progress = threading.Condition()
        clients = [cluster.client(timeout_ms=60_000) for _ in range(writers)]
        team = [Writer(f"writer-{n}", client, inflight, progress) for n, client in enumerate(clients)]
        for writer in team:
            writer.start()
        for number in range(kills):
            await_progress(team, progress, 50)
            leader = cluster.wait_leader()
            cluster.kill(leader)
            killed_s = time.monotonic()
            await_progress(team, progress, 1)
            account.gaps_ms.append((time.monotonic() - killed_s) * 1000)
            cluster.restart(leader)
            if show:
                print(f"kill {number + 1}: node {leader}, gap {account.gaps_ms[-1]:.0f} ms", flush=True)
        sent = {writer.name: writer.finish() for writer in team}
        check(team, sent, clients[0], account)
        account.replicas_equal = replicas_equal(clients[0], nodes)
    return account


def await_progress(team: list[Writer], progress: threading.Condition, writes: int) -> None:
    """Wait until every writer has `writes` more acknowledgements of writes than now."""
    with progress:
        goals = [(writer, len(writer.acknowledged) + writes) for writer in team]
        reached = progress.wait_for(
            lambda: all(len(writer.acknowledged) >= goal for writer, goal in goals), STEP_TIMEOUT_S
        )
    assert reached, "the cluster does not go on: " + str({w.name: list(w.failed.items())[:2] for w in team})


def check(team: list[Writer], sent: dict[str, int], client: Client, account: Account) -> None:
    """Every acknowledged number is there once, in order; every other at most once."""
    for writer in team:
        executed: list[int] = []
        while part := client.query("part", writer.name, len(executed), READ_PART):
            executed += part
        present = set(executed)
        account.acknowledged += len(writer.acknowledged)
        account.failed += len(writer.failed)
        account.lost += len(set(writer.acknowledged) - present)
        account.repeated += len(executed) - len(present)
        account.disordered += sum(1 for a, b in itertools.pairwise(executed) if b < a)
        assert present <= set(range(sent[writer.name])), "numbers that nobody wrote"


def replicas_equal(client: Client, nodes: int) -> bool:
    """Whether all nodes come to the same state at the same index within the time for a step."""
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while time.monotonic() < deadline_s:
        client.call("append", "the end", 0)  # An entry that every replica has to reach.
        documents = [client.admin("state_digest", node=node_id) for node_id in range(1, nodes + 1)]
        if len({document["applied"] for document in documents}) == 1:
            return len({document["state_digest"] for document in documents}) == 1
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=3)
    arguments = parser.parse_args()
    account = run(kills=arguments.kills, nodes=arguments.nodes, show=True)
    print(json.dumps(account.as_dict()))
    return 0 if account.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
