"""Kill nodes with SIGKILL at every storage call of a recorded run, and at random under load; account for every write.

Run as a script for the long versions:
python tests/durability/syscall_kills.py --calls 2000
python tests/durability/syscall_kills.py --kills 1000 --seed 1
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors import LocalCluster  # noqa: E402
from raftactors.cluster.supervisor import BackOff  # noqa: E402
from raftactors.config import RaftTiming  # noqa: E402
from tests.cluster.leader_kills import Account  # noqa: E402
from tests.cluster.ledger import Ledger  # noqa: E402
from tests.durability.load import Load, eventful_limits  # noqa: E402
from tests.durability.shim import Shim  # noqa: E402

KILL_TIMEOUT_S = 60.0
SEGMENT_BYTES = 16 * 1024

AT_ONCE = BackOff(first_ms=1, last_ms=1, stable_ms=1, attempts_max=1_000_000)
FAST = RaftTiming(tick_ms=10)


@dataclass
class Sweep:
    """What came out of the kills at every call."""

    kills: int
    by_class: dict[str, int]
    account: Account

    @property
    def clean(self) -> bool:
        return self.account.clean

    def as_dict(self) -> dict[str, Any]:
        return {**self.account.as_dict(), "by_class": self.by_class}


def sweep(first: int, last: int, *, nodes: int = 1, show: bool = False) -> Sweep:
    """Kill node 1 at the entry of its call `first`, restart it, kill it at the next one, and so on to `last`.

    With one node there is nobody else to keep what it acknowledged. The node is started again at once each time, in
    the folder as the kill left it; that it serves again is the proof that nothing had to be repaired.
    """
    limits = eventful_limits(SEGMENT_BYTES, snapshot_entries=30)
    with tempfile.TemporaryDirectory() as folder, Shim(Path(folder) / "shim", nodes) as shim:
        control = shim.control[1]
        with (
            LocalCluster(
                nodes, Ledger, limits=limits, timing=FAST, back_off=AT_ONCE, command=shim.command()
            ) as cluster,
            # Few writes a call: what the application holds grows with the square of the calls, and is in each snapshot.
            Load(cluster, writers=1, inflight=2) as load,
        ):
            load.await_progress(1)
            control["kill_until"] = last
            control["kill_at"] = first
            # The present process is far behind its first call, so the call that it makes next is its last.
            await_kills(control, load, last - first + 1, show=show)
            load.await_progress(10)
            return Sweep(control["kills"], control.kills_by_class(), load.account(control["kills"]))


def await_kills(control: Any, load: Load, kills: int, *, show: bool) -> None:
    """Wait for so many kills; each has to follow the one before it within the time for a step."""
    seen, deadline_s = control["kills"], time.monotonic() + KILL_TIMEOUT_S
    pause = threading.Event()
    while control["kills"] < kills:
        if control["kills"] > seen:
            seen, deadline_s = control["kills"], time.monotonic() + KILL_TIMEOUT_S
            if show and seen % 100 == 0:
                print(f"{seen} kills, {load.acknowledged} acknowledged", flush=True)
        assert time.monotonic() < deadline_s, f"no kill for {KILL_TIMEOUT_S} s after {seen}: the node does not go on"
        pause.wait(0.005)


@dataclass
class RandomKills:
    """What came out of the random kills."""

    kills: int = 0
    rounds: int = 0
    whole_cluster: int = 0
    restart_ms: list[float] = field(default_factory=list)
    account: Account = field(default_factory=Account)

    def as_dict(self) -> dict[str, Any]:
        restarts = sorted(self.restart_ms)
        return {
            **self.account.as_dict(),
            "rounds": self.rounds,
            "whole_cluster": self.whole_cluster,
            "restart_ms_p50": round(restarts[len(restarts) // 2]) if restarts else None,
            "restart_ms_max": round(restarts[-1]) if restarts else None,
        }


def random_kills(kills: int, *, seed: int, nodes: int = 3, show: bool = False) -> RandomKills:
    """Kill any subset of the nodes, all of them too, again and again under load."""
    rng = random.Random(seed)
    outcome = RandomKills()
    with LocalCluster(nodes, Ledger, limits=eventful_limits(SEGMENT_BYTES), timing=FAST) as cluster:
        cluster.wait_leader(30_000)
        with Load(cluster, writers=4) as load:
            while outcome.kills < kills:
                load.await_progress(rng.randint(1, 20))
                chosen = rng.sample(sorted(cluster.nodes), rng.randint(1, nodes))
                for node_id in chosen:
                    cluster.kill(node_id)
                for node_id in rng.sample(chosen, len(chosen)):
                    started_s = time.monotonic()
                    cluster.restart(node_id)
                    outcome.restart_ms.append((time.monotonic() - started_s) * 1000)
                outcome.kills += len(chosen)
                outcome.rounds += 1
                outcome.whole_cluster += len(chosen) == nodes
                if show and outcome.rounds % 20 == 0:
                    print(f"{outcome.kills} kills, {load.acknowledged} acknowledged", flush=True)
            outcome.account = load.account(outcome.kills)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=0, help="kill at each of the first so many storage calls")
    parser.add_argument("--kills", type=int, default=0, help="kill any subset at random, so many processes in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=0, help="1 for --calls and 3 for --kills unless told")
    arguments = parser.parse_args()
    logging.getLogger("raftactors.cluster").setLevel(logging.CRITICAL)  # Which would tell of every death.
    clean = True
    if arguments.calls:
        swept = sweep(1, arguments.calls, nodes=arguments.nodes or 1, show=True)
        print(json.dumps({"every_call": swept.as_dict()}))
        clean = swept.clean
    if arguments.kills:
        outcome = random_kills(arguments.kills, seed=arguments.seed, nodes=arguments.nodes or 3, show=True)
        print(json.dumps({"random": outcome.as_dict()}))
        clean = clean and outcome.account.clean
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
