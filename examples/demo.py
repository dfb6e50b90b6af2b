"""Kill the leader of a replicated bank under load, and count afterwards whether every acknowledged write is there once.

Three processes run the `Bank` of bank.py while a few threads deposit into accounts of their own. The leader is killed
with SIGKILL, the gap in acknowledged writes is measured, the killed node is started again and catches up. In the end
all replicas must be equal, and every account must hold exactly what was acknowledged. Exit code 1 if any of that fails.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from bank import Bank
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raftactors import Client, LocalCluster, RaftActorsError

WRITERS = 4
PAUSE_S = 0.004
"""Between two deposits of a writer: the demonstration shows failover, not speed (bench/ does)."""

FRAME_S = 0.25
CATCH_UP_S = 15.0


class DemoFailedError(Exception):
    """Something did not hold that this program exists to show."""


class Writer:
    """A thread that deposits 1 into its own account again and again, and checks each new balance."""

    def __init__(self, client: Client, owner: str) -> None:
        self.owner = owner
        self.acknowledged_s: list[float] = []
        self.failure = ""
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=owner, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            try:
                balance = self._client.call("deposit", self.owner, 1)
            except RaftActorsError as error:
                self.failure = f"{self.owner}: {type(error).__name__}: {error}"
                return
            self.acknowledged_s.append(time.monotonic())
            if balance != len(self.acknowledged_s):
                self.failure = f"{self.owner}: balance {balance} after {len(self.acknowledged_s)} deposits of 1"
                return

    def stop(self) -> None:
        """End after the deposit that is under way."""
        self._stop.set()
        self._thread.join()


class Stage:
    """What the audience sees: a live table on a terminal, a line a second in a pipe; and what happened, in both."""

    def __init__(self, cluster: LocalCluster, writers: list[Writer]) -> None:
        self._cluster = cluster
        self._writers = writers
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._events: list[str] = []
        self._began_s = time.monotonic()
        self._line_due_s = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the live table on the screen."""
        if self._live is None:
            yield
        else:
            with self._live:
                yield

    def tell(self, event: str) -> None:
        """Something happened."""
        self._events.append(f"{time.monotonic() - self._began_s:5.1f} s  {event}")
        if self._live is None:
            print(self._events[-1], flush=True)
        else:
            self._refresh()

    def play(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, showing what goes on. Raises DemoFailedError when a writer has failed."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not until():
            self._refresh()
            for writer in self._writers:
                if writer.failure:
                    raise DemoFailedError(writer.failure)
            time.sleep(max(0.0, min(FRAME_S, end_s - time.monotonic())))

    def _refresh(self) -> None:
        now_s = time.monotonic()
        if self._live is None and now_s < self._line_due_s:
            return
        self._line_due_s = now_s + 1.0
        status = self._cluster.status()
        count = sum(len(writer.acknowledged_s) for writer in self._writers)
        recent = sum(stamp > now_s - 1.0 for writer in self._writers for stamp in writer.acknowledged_s[-2_000:])
        summary = f"{count} writes acknowledged, {recent} in the last second"
        if self._live is not None:
            self._live.update(Group(_table(status), summary, Text("\n".join(self._events))), refresh=True)
        else:
            nodes = "  ".join(f"node {node['node_id']} {_role(node)}" for node in status["nodes"])
            print(f"{now_s - self._began_s:5.1f} s  {summary}  [{nodes}]", flush=True)


def _table(status: dict[str, Any]) -> Table:
    table = Table()
    for name in ("node", "pid", "role", "term", "applied", "CPU", "memory"):
        table.add_column(name, justify="left" if name == "role" else "right")
    for node in status["nodes"]:
        raft, role = node["raft"] or {}, _role(node)
        style = {"leader": "bold green", "follower": "green"}.get(role, "bold red")
        table.add_row(
            str(node["node_id"]),
            str(node["pid"] or "-"),
            Text(role, style),
            str(raft.get("term", "-")),
            str(raft.get("applied", "-")),
            f"{node['cpu_percent']:.0f} %",
            f"{node['rss_bytes'] / 2**20:.0f} MiB",
        )
    return table


def _role(node: dict[str, Any]) -> str:
    return str((node["raft"] or {}).get("role", node["state"]))


def kill_leader(cluster: LocalCluster, stage: Stage, writers: list[Writer], phase_s: float) -> int:
    """Kill the leader, wait for writes to go on, and tell how long nothing was acknowledged. Returns the node's id."""
    leader_id = cluster.wait_leader()
    killed_s = time.monotonic()
    cluster.kill(leader_id)
    stage.tell(f"killed the leader, node {leader_id}, with SIGKILL")

    def goes_on() -> bool:
        return all(writer.acknowledged_s and writer.acknowledged_s[-1] > killed_s + 0.1 for writer in writers)

    stage.play(CATCH_UP_S, until=goes_on)
    if not goes_on():
        raise DemoFailedError(f"no write was acknowledged within {CATCH_UP_S} s after the leader's death")
    stamps = sorted(stamp for writer in writers for stamp in writer.acknowledged_s)
    gap_s = max(later - former for former, later in pairwise(stamps) if later >= killed_s)
    successor = cluster.wait_leader()
    stage.tell(f"node {successor} leads; longest time without an acknowledged write: {gap_s * 1000:.0f} ms")
    stage.play(phase_s)
    return leader_id


def compare_replicas(cluster: LocalCluster, stage: Stage) -> None:
    """Wait until all replicas have applied the same index, and compare what they made of it."""

    documents: dict[int, dict[str, Any]] = {}

    def equal_indexes() -> bool:
        documents.clear()
        documents.update(cluster.node_statuses())
        return len(documents) == len(cluster.nodes) and len({d["applied"] for d in documents.values()}) == 1

    stage.play(CATCH_UP_S, until=equal_indexes)
    states = {(document["applied"], document["digest"]) for document in documents.values()}
    if len(documents) != len(cluster.nodes) or len(states) != 1:
        raise DemoFailedError(f"the replicas differ: (applied index, digest) {sorted(states)}")
    applied, digest = states.pop()
    stage.tell(f"all {len(documents)} replicas agree: applied index {applied}, digest {digest}")


def count_deposits(client: Client, stage: Stage, writers: list[Writer]) -> None:
    """Compare every account with what its writer saw acknowledged."""
    acknowledged = {writer.owner: len(writer.acknowledged_s) for writer in writers}
    balances = {owner: client.query("balance", owner) for owner in acknowledged}
    total = client.query("total")
    if balances != acknowledged or total != sum(acknowledged.values()):
        raise DemoFailedError(f"acknowledged {acknowledged}, but the accounts hold {balances}, in total {total}")
    stage.tell(f"{total} deposits acknowledged, {total} in the accounts: none lost, none twice")


def perform(cluster: LocalCluster, client: Client, phase_s: float) -> None:
    """The whole demonstration. Raises DemoFailedError if something does not hold."""
    cluster.wait_leader()
    writers = [Writer(client, f"writer-{number}") for number in range(1, WRITERS + 1)]
    stage = Stage(cluster, writers)
    try:
        with stage.shown():
            stage.tell(f"three processes run the bank, {WRITERS} threads deposit")
            stage.play(phase_s)
            killed = kill_leader(cluster, stage, writers, phase_s)
            cluster.restart(killed)
            stage.tell(f"started node {killed} again; it reads its log and catches up")
            stage.play(phase_s)
            for writer in writers:
                writer.stop()
            compare_replicas(cluster, stage)
            count_deposits(client, stage, writers)
    finally:
        for writer in writers:
            writer.stop()


def main() -> int:
    """Run it; `--phase-s` shortens the three phases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase-s", type=float, default=4.0, help="seconds of writing before, after and at the end")
    phase_s = parser.parse_args().phase_s
    try:
        with LocalCluster(3, Bank) as cluster, cluster.client() as client:
            perform(cluster, client, phase_s)
    except (DemoFailedError, RaftActorsError) as error:
        print(f"FAILED: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    print("OK")
    return 0


if __name__ == "__main__":
    sys.exit(main())
