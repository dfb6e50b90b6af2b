"""A leader whose disk stalls or fills up: leadership moves, nothing acknowledged is lost, the node heals by itself.

Stalls are made by a shim whose fdatasync does not return. Full disks are real ones, small ext4 file systems in a file
that are filled to the last block and freed again (root and loop devices), or pretended by the shim.

Run as a script for the long versions:
python tests/durability/disk_trouble.py --stalls 100
python tests/durability/disk_trouble.py --fills 200
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors import LocalCluster  # noqa: E402
from raftactors.cluster.supervisor import BackOff  # noqa: E402
from raftactors.config import Limits, RaftTiming  # noqa: E402
from raftactors.errors import ExitCode, StorageError  # noqa: E402
from tests.cluster.leader_kills import Account  # noqa: E402
from tests.cluster.ledger import Ledger  # noqa: E402
from tests.durability import power_cuts  # noqa: E402
from tests.durability.load import Load  # noqa: E402
from tests.durability.shim import Control, Shim  # noqa: E402

STEP_TIMEOUT_S = 60.0
TIMING = RaftTiming(tick_ms=20)
SEGMENT_BYTES = 64 * 1024
SMALL_DISK_BYTES = 24 * 1024 * 1024
WATCHDOG_MS = 600_000
"""So long that a node outlives its stalls: the tests look at what it does with itself, not at its end."""


@dataclass
class Trouble:
    """What came out. Times are in election timeouts, from the beginning of the trouble to a new leader."""

    times: int = 0
    moved_after: list[float] = field(default_factory=list)
    restarts: int = 0
    boots_when_full: int = 0
    refused_when_full: int = 0
    """Restarts on the full disk that ended with its own exit code and waited for room."""
    account: Account = field(default_factory=Account)

    @property
    def clean(self) -> bool:
        return self.account.clean and not self.restarts

    def as_dict(self) -> dict[str, Any]:
        moved = sorted(self.moved_after)
        return {
            **self.account.as_dict(),
            "times": self.times,
            "restarts": self.restarts,
            "boots_when_full": self.boots_when_full,
            "refused_when_full": self.refused_when_full,
            "moved_after_p50": round(moved[len(moved) // 2], 2),
            "moved_after_max": round(moved[-1], 2),
        }


def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait until something holds, and return what it gave."""
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    pause = threading.Event()
    while not (value := holds()):
        assert time.monotonic() < deadline_s, what
        pause.wait(0.005)
    return value


def disk(cluster: LocalCluster, node_id: int) -> str:
    """The state of its disk as the node itself tells it."""
    return str(cluster.node_statuses().get(node_id, {}).get("disk", ""))


def other_leader(cluster: LocalCluster, node_id: int) -> int:
    """Who leads, if it is another node than this one and this one does not believe to lead any more."""
    statuses = cluster.node_statuses()
    leader = cluster.leader()
    led_by_two = statuses.get(node_id, {}).get("role") == "leader"
    return leader if leader not in (0, node_id) and not led_by_two else 0


def await_move(cluster: LocalCluster, node_id: int, began_s: float, outcome: Trouble) -> None:
    """Wait for another leader and note how long it took; commands of all writers go on under it."""
    until(lambda: other_leader(cluster, node_id), f"node {node_id} does not give leadership up")
    outcome.moved_after.append((time.monotonic() - began_s) * 1000 / TIMING.election_timeout_ms)


def total_restarts(cluster: LocalCluster) -> int:
    return sum(node["restarts"] for node in cluster.status()["nodes"])


def stalls(times: int, *, nodes: int = 3, show: bool = False) -> Trouble:
    """Let fdatasync of the leader hang until another node leads and serves, again and again."""
    outcome = Trouble()
    options = {"watchdog_ms": WATCHDOG_MS}
    with (
        tempfile.TemporaryDirectory() as folder,
        Shim(Path(folder) / "shim", nodes) as shim,
        LocalCluster(nodes, Ledger, timing=TIMING, node_options=options, command=shim.command()) as cluster,
        Load(cluster) as load,
    ):
        try:
            for _ in range(times):
                load.await_progress(5)
                leader = cluster.wait_leader(30_000)
                _stall(cluster, load, leader, shim.control[leader], outcome)
                if show:
                    print(f"stall {outcome.times}: {outcome.moved_after[-1]:.2f} election timeouts", flush=True)
        finally:
            for control in shim.control.values():
                control["stall"] = 0
        outcome.restarts = total_restarts(cluster)
        outcome.account = load.account(0)
    return outcome


def _stall(cluster: LocalCluster, load: Load, leader: int, control: Control, outcome: Trouble) -> None:
    """One stall, from its first waiting sync until the node is well again."""
    control["stall"] = 1
    until(lambda: control["stalled"], "nothing is synced, so nothing can stall")
    await_move(cluster, leader, time.monotonic(), outcome)
    load.await_progress(5)
    until(lambda: disk(cluster, leader) == "stalled", f"node {leader} does not tell that its disk stalls")
    assert control["stalled"], "the stalled sync has returned"
    # It follows now, and for as long as it cannot promise anything nobody elects it.
    assert cluster.leader() != leader
    control["stall"] = 0
    until(lambda: disk(cluster, leader) == "ok", f"node {leader} does not heal")
    outcome.times += 1


def hang(*, nodes: int = 3) -> int | None:
    """Let fdatasync of the leader hang for good; returns the exit code with which the node is ended."""
    options = {"watchdog_ms": 1_000}
    never = BackOff(first_ms=3_600_000, last_ms=3_600_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        Shim(Path(folder) / "shim", nodes) as shim,
        LocalCluster(
            nodes, Ledger, timing=TIMING, node_options=options, back_off=never, command=shim.command()
        ) as cluster,
        Load(cluster) as load,
    ):
        load.await_progress(5)
        leader = cluster.wait_leader(30_000)
        shim.control[leader]["stall"] = 1
        until(lambda: not cluster.nodes[leader].is_alive, "the hung node is not ended")
        shim.control[leader]["stall"] = 0
        code = cluster.nodes[leader].exit_code
        cluster.restart(leader)
        load.await_progress(5)
        account = load.account(1)
        assert account.clean, account.as_dict()
    return code


def pretended_fills(times: int, *, nodes: int = 3) -> Trouble:
    """Let the leader's disk take no new segment until another node leads and serves, again and again."""
    outcome = Trouble()
    limits = Limits(segment_bytes=SEGMENT_BYTES)
    with (
        tempfile.TemporaryDirectory() as folder,
        Shim(Path(folder) / "shim", nodes) as shim,
        LocalCluster(nodes, Ledger, timing=TIMING, limits=limits, command=shim.command()) as cluster,
        Load(cluster) as load,
    ):
        for _ in range(times):
            load.await_progress(5)
            leader = cluster.wait_leader(30_000)
            shim.control[leader]["no_space"] = 1
            _live_through(cluster, load, leader, outcome)
            shim.control[leader]["no_space"] = 0
            _heal(cluster, load, leader, outcome)
        outcome.restarts = total_restarts(cluster)
        outcome.account = load.account(0)
    return outcome


def everybody_full(*, nodes: int = 3) -> Trouble:
    """Let no node have room: reads are still answered, writes wait, and go on when there is room again."""
    outcome = Trouble(moved_after=[0.0])
    limits = Limits(segment_bytes=SEGMENT_BYTES)
    with (
        tempfile.TemporaryDirectory() as folder,
        Shim(Path(folder) / "shim", nodes) as shim,
        LocalCluster(nodes, Ledger, timing=TIMING, limits=limits, command=shim.command()) as cluster,
        Load(cluster) as load,
    ):
        load.await_progress(5)
        for control in shim.control.values():
            control["no_space"] = 1
        until(lambda: {disk(cluster, node_id) for node_id in cluster.nodes} == {"full"}, "not every disk is full")
        settled = load.acknowledged
        with cluster.client(timeout_ms=int(STEP_TIMEOUT_S * 1000)) as client:
            for _ in range(20):
                assert client.query("part", "writer-0", 0, 1) == [0]
        assert load.acknowledged - settled <= len(load.team) * 8, "writes went on although no disk has room"
        for control in shim.control.values():
            control["no_space"] = 0
        load.await_progress(5)
        outcome.times = 1
        outcome.restarts = total_restarts(cluster)
        outcome.account = load.account(0)
    return outcome


def fills(times: int, *, nodes: int = 3, show: bool = False) -> Trouble:
    """Fill the real disk of the leader to the last block until another node leads, and free it, again and again."""
    outcome = Trouble()
    with (
        tempfile.TemporaryDirectory() as folder,
        power_cuts.DiskCluster(
            Path(folder), nodes, disk_bytes=SMALL_DISK_BYTES, segment_bytes=SEGMENT_BYTES, timing=TIMING
        ) as small,
    ):
        cluster = small.cluster
        with Load(cluster) as load:
            for _ in range(times):
                load.await_progress(5)
                leader = cluster.wait_leader(30_000)
                ballast = small.disks[leader].mount_point / "ballast"
                fill(ballast)
                _live_through(cluster, load, leader, outcome)
                _restart_full(cluster, leader, outcome)
                ballast.unlink()
                if not cluster.nodes[leader].is_alive:
                    cluster.restart(leader)
                _heal(cluster, load, leader, outcome)
                if show:
                    print(f"fill {outcome.times}: {outcome.moved_after[-1]:.2f} election timeouts", flush=True)
            outcome.restarts = total_restarts(cluster)
            outcome.account = load.account(0)
    return outcome


def fill(ballast: Path) -> None:
    """Take every block that is left."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1024 * 1024, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
        os.fsync(file.fileno())


def _live_through(cluster: LocalCluster, load: Load, leader: int, outcome: Trouble) -> None:
    """The disk counts as full from the moment in which the node says so; the other nodes then serve."""
    until(lambda: disk(cluster, leader) == "full", f"node {leader} does not notice that its disk is full")
    await_move(cluster, leader, time.monotonic(), outcome)
    load.await_progress(5)
    until(
        lambda: disk(cluster, leader) == "full" and cluster.node_statuses().get(leader, {}).get("role") == "follower",
        f"node {leader} does not follow with its full disk",
    )


def _restart_full(cluster: LocalCluster, node_id: int, outcome: Trouble) -> None:
    """Kill the node and start it on the full disk: it serves, or says that it has no room and waits for some."""
    cluster.kill(node_id)
    try:
        cluster.restart(node_id)
    except StorageError:
        assert cluster.nodes[node_id].exit_code == ExitCode.DATA_UNREADABLE
        outcome.refused_when_full += 1
    else:
        outcome.boots_when_full += 1


def _heal(cluster: LocalCluster, load: Load, node_id: int, outcome: Trouble) -> None:
    """With room again the node catches up with everything that was committed without it."""
    until(lambda: disk(cluster, node_id) == "ok", f"node {node_id} does not heal")
    goal = max(document["commit"] for document in cluster.node_statuses().values())
    until(lambda: cluster.node_statuses().get(node_id, {}).get("applied", 0) >= goal, f"node {node_id} stays behind")
    load.await_progress(2)
    outcome.times += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stalls", type=int, default=0)
    parser.add_argument("--fills", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("raftactors.cluster").setLevel(logging.CRITICAL)
    clean = True
    if arguments.stalls:
        outcome = stalls(arguments.stalls, show=True)
        print(json.dumps({"stalls": outcome.as_dict()}))
        clean = outcome.clean
    if arguments.fills:
        outcome = fills(arguments.fills, show=True)
        print(json.dumps({"fills": outcome.as_dict()}))
        clean = clean and outcome.clean
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
