"""A cluster in bad company: honest clients write and read while nodes are paused and killed and strangers do harm.

One run of three real nodes with hundreds of honest clients, pauses (SIGSTOP), leader kills (SIGKILL), idle connections,
raw bytes, ZMTP that is wrong in many ways, multipart messages without end, and readers that never read, all at once.
Afterwards no node may have died on its own, no acknowledged write may be lost or executed twice, and memory,
descriptors and threads must have stayed within bounds.

Run as a script for the whole campaign of ten minutes, or a part of it, which makes everything but the clients less:
python tests/durability/bad_company.py
python tests/durability/bad_company.py --minutes 1 --clients 100
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors import LocalCluster  # noqa: E402
from raftactors.client import Client  # noqa: E402
from raftactors.config import Limits  # noqa: E402
from raftactors.errors import RaftActorsError, RequestError  # noqa: E402
from tests.cluster.ledger import Ledger  # noqa: E402
from tests.durability.honest_clients import CLIENT_TIMEOUT_MS, Crowds, Verdict, judge  # noqa: E402
from tests.durability.hostile_process import PORTS, HostileProcess, Plan  # noqa: E402
from tests.durability.node_watch import Measured, Watch, listening  # noqa: E402

NODES = 3
CLIENT_PROCESSES = 4
PAUSE_S = (0.1, 5.0)
STEP_TIMEOUT_S = 60.0
SAMPLE_S = 0.1
RETRY_S = 0.2
COUNTED = ("pauses", "kills", "idle_connections", "raw_frames", "zmtp_frames", "bombs", "slow_readers")
"""What is counted as it happens; the names are those of `Size`."""
LIMITS = Limits(segment_bytes=8 * 1024 * 1024, snapshot_entries=20_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much happens. The defaults are the whole campaign."""

    minutes: float = 10.0
    clients: int = 300
    pauses: int = 200
    kills: int = 100
    idle_connections: int = 5_000
    raw_frames: int = 200_000
    zmtp_frames: int = 200_000
    bombs: int = 12
    slow_readers: int = 24

    @classmethod
    def of_minutes(cls, minutes: float) -> Size:
        """The part of the campaign that fits; as many clients as ever, one at least of everything, two bombs a port."""
        whole = cls()
        least = dict.fromkeys(COUNTED, 1) | {"bombs": 2 * len(PORTS)}
        part = {name: max(least[name], round(getattr(whole, name) * minutes / whole.minutes)) for name in COUNTED}
        return dataclasses.replace(whole, minutes=minutes, **part)


class Disturbance(threading.Thread):
    """Does something to the cluster `times` times, spread over `duration_s`."""

    def __init__(self, name: str, act: Callable[[], bool], times: int, duration_s: float) -> None:
        """`act` says whether it could be done; otherwise it is tried again."""
        super().__init__(name=name)
        self.done = 0
        self.problems: list[str] = []
        self.stop = threading.Event()
        self._act = act
        self._times = times
        self._duration_s = duration_s

    def run(self) -> None:
        started_s = time.monotonic()
        while self.done < self._times and not self.stop.is_set():
            due_s = started_s + self._duration_s * self.done / self._times
            if self.stop.wait(max(0.0, due_s - time.monotonic())):
                return
            try:
                self.done += self._act()
            except RaftActorsError as error:
                self.problems.append(f"{self.name}: {error}")
                self.stop.wait(RETRY_S)


def pause_any(cluster: LocalCluster, rng: Random, stop: threading.Event) -> bool:
    """Stop a random node for a while, more often a short one than a long one; `stop` ends it before its time."""
    node_id = rng.choice(sorted(cluster.nodes))
    try:
        cluster.pause(node_id)
    except RaftActorsError:  # It does not run at the moment.
        stop.wait(RETRY_S)
        return False
    shortest, longest = PAUSE_S
    stop.wait(shortest * (longest / shortest) ** rng.random())
    cluster.resume(node_id)
    return True


def kill_leader(cluster: LocalCluster, watch: Watch) -> bool:
    """Kill the leader and start it again, also when it dies as it starts: that is a death that nobody asked for."""
    leader = cluster.wait_leader(int(STEP_TIMEOUT_S * 1000))
    cluster.kill(leader)
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while True:
        try:
            cluster.restart(leader)
        except RaftActorsError as error:
            watch.measured[leader].deaths.append(str(error))
            if time.monotonic() > deadline_s:
                raise
        else:
            return True


@dataclass(slots=True)
class Outcome:
    """What came out of a run."""

    size: Size
    seconds: float = 0.0
    measured: dict[int, Measured] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    idle_at_once: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list)

    @property
    def deaths(self) -> int:
        """Deaths of nodes that nobody asked for."""
        return sum(len(measured.deaths) for measured in self.measured.values())

    def faults(self) -> list[str]:
        """Everything that is not as it has to be, a line each."""
        found = [f"node {node_id} {fault}" for node_id, each in self.measured.items() for fault in each.faults()]
        found += self.problems
        if not self.verdict.clean:
            found.append(f"the ledger: {dataclasses.asdict(self.verdict)}")
        for name, done in self.done.items():
            wanted = getattr(self.size, name)
            if done < wanted:
                found.append(f"{name}: {done} of {wanted} came about")
        return found


def run(size: Size, *, seed: int = 1, show: bool = False) -> Outcome:
    """Do it. Processes and threads of the campaign end with it, whatever happens."""
    outcome = Outcome(size)
    started_s = time.monotonic()
    with LocalCluster(NODES, Ledger, limits=LIMITS) as cluster:
        cluster.wait_leader(30_000)
        watch = Watch(cluster)
        outcome.measured = watch.measured
        watch.begin()
        with listening(watch):
            try:
                _campaign(cluster, watch, outcome, seed, show)
            finally:
                watch.end()
        for node in cluster.status()["nodes"]:
            if node["state"] != "running":
                outcome.problems.append(f"node {node['node_id']} is {node['state']}: {node['reason']}")
            if node["restarts"] > len(watch.measured[node["node_id"]].deaths):
                outcome.problems.append(f"node {node['node_id']} was started again {node['restarts']} times")
        with cluster.client(timeout_ms=CLIENT_TIMEOUT_MS) as client:
            outcome.problems += compare_replicas(client)
    outcome.seconds = time.monotonic() - started_s
    return outcome


def _campaign(cluster: LocalCluster, watch: Watch, outcome: Outcome, seed: int, show: bool) -> None:
    """Let everything loose at once, wait until all has happened, and judge what was written."""
    size = outcome.size
    duration_s = size.minutes * 60
    deadline_s = time.monotonic() + 2 * duration_s + STEP_TIMEOUT_S
    addresses = list(cluster.addresses.values())
    with ExitStack() as stack:
        crowds = stack.enter_context(
            Crowds(addresses, cluster.cluster_id, clients=size.clients, processes=CLIENT_PROCESSES, seed=seed)
        )
        bars = stack.enter_context(Bars(size, Console(stderr=True), show=show))
        rng = Random(seed)
        pauses = Disturbance("pauses", lambda: pause_any(cluster, rng, pauses.stop), size.pauses, duration_s)
        kills = Disturbance("kills", lambda: kill_leader(cluster, watch), size.kills, duration_s)
        while not crowds.listen() and not crowds.died() and time.monotonic() < deadline_s:
            time.sleep(SAMPLE_S)
        strangers = stack.enter_context(HostileProcess(cluster, _plan(size, duration_s, deadline_s), seed))
        for disturbance in (pauses, kills):
            disturbance.start()
            stack.callback(disturbance.join)
            stack.callback(disturbance.stop.set)
        while time.monotonic() < deadline_s:
            outcome.done = strangers.listen() | {"pauses": pauses.done, "kills": kills.done}
            bars.show(outcome.done | {"acknowledged": crowds.listen()})
            if not (strangers.is_alive or pauses.is_alive() or kills.is_alive()):
                break
            time.sleep(SAMPLE_S)
        for disturbance in (pauses, kills):
            disturbance.stop.set()
            disturbance.join()
            outcome.problems += disturbance.problems
        outcome.idle_at_once = strangers.idle_max
        outcome.problems += crowds.died()
        records = crowds.finish()
        with cluster.client(timeout_ms=CLIENT_TIMEOUT_MS) as client:
            outcome.verdict = judge(records, client)


def compare_replicas(client: Client) -> list[str]:
    """What is wrong with the replicas: they differ at an index, or come to no common one within the time for a step."""
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    seen: dict[int, object] = {}
    while time.monotonic() < deadline_s:
        try:
            client.call("append", "the end", 0)  # An entry that every replica has to reach.
            documents = {node_id: client.admin("state_digest", node=node_id) for node_id in range(1, NODES + 1)}
        except RequestError as error:
            return [f"the replicas cannot be compared: {error}"]
        seen = {node_id: (document["applied"], document["state_digest"]) for node_id, document in documents.items()}
        if len({document["applied"] for document in documents.values()}) == 1:
            return [] if len(set(seen.values())) == 1 else [f"the replicas differ: {seen}"]
    return [f"the replicas come to no common index within {STEP_TIMEOUT_S:.0f} s: {seen}"]


def _plan(size: Size, duration_s: float, deadline_s: float) -> Plan:
    """What the strangers do."""
    return Plan(
        duration_s=duration_s,
        duration_s_max=deadline_s - time.monotonic(),
        idle_connections=size.idle_connections,
        raw_frames=size.raw_frames,
        zmtp_frames=size.zmtp_frames,
        bombs=size.bombs,
        slow_readers=size.slow_readers,
    )


class Bars:
    """One progress bar for each thing that happens, on a terminal."""

    def __init__(self, size: Size, console: Console, *, show: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=not (show and console.is_terminal))
        wanted = dataclasses.asdict(size)
        self._tasks = {name: self._progress.add_task(name, total=wanted[name]) for name in COUNTED}
        self._tasks["acknowledged"] = self._progress.add_task("acknowledged writes", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: dict[str, int]) -> None:
        """How far everything is."""
        for name, task in self._tasks.items():
            self._progress.update(task, completed=done.get(name, 0))


def summary(outcome: Outcome) -> Table:
    """What came out, node by node."""
    table = Table(title=f"{outcome.seconds:.0f} s in bad company, {outcome.size.clients} honest clients")
    for heading in ("node", "deaths", "memory, MiB", "descriptors", "threads"):
        table.add_column(heading, justify="right")
    for node_id, measured in outcome.measured.items():
        table.add_row(
            str(node_id),
            str(len(measured.deaths)),
            str(measured.rss_bytes_max >> 20),
            " / ".join(map(str, measured.descriptors)),
            " / ".join(map(str, measured.threads)),
        )
    table.caption = "descriptors and threads: before / most / after"
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=Size().minutes, help="10; what happens shrinks along with it")
    for name in ("clients", *COUNTED):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("clients", *COUNTED)}
    size = dataclasses.replace(
        Size.of_minutes(arguments.minutes), **{name: value for name, value in given.items() if value is not None}
    )
    logging.getLogger("raftactors.cluster").propagate = False
    outcome = run(size, seed=arguments.seed, show=True)
    console = Console(highlight=False)
    console.print(summary(outcome))
    verdict = outcome.verdict
    console.print(
        f"{verdict.acknowledged} writes acknowledged, {verdict.failed} failed, {verdict.lost} lost, {verdict.twice} "
        f"executed twice; {verdict.reads} reads, {verdict.reads_wrong} wrong",
        soft_wrap=True,
    )
    console.print(", ".join(f"{done} {name.replace('_', ' ')}" for name, done in outcome.done.items()), end="; ")
    console.print(f"at most {outcome.idle_at_once} idle connections at once")
    for fault in outcome.faults():
        console.print(f"FAULT: {fault}", markup=False, soft_wrap=True)
    return 1 if outcome.faults() else 0


if __name__ == "__main__":
    raise SystemExit(main())
