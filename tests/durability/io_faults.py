"""Let storage calls of a real node fail, one at a time, and account for every write.

A sync that fails must end the process within a second, with its own exit code, without another try and without an
acknowledgement of anything it was to cover. A disk that is full, or writes only half of what it was given, must lose
nothing either; the node ends in order or goes on. A call that a signal interrupted is made again. Afterwards the node
must serve again without repair.

Run as a script for the long version: python tests/durability/io_faults.py --calls 60
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors import LocalCluster  # noqa: E402
from raftactors.cluster.supervisor import BackOff  # noqa: E402
from raftactors.config import Limits, RaftTiming  # noqa: E402
from raftactors.errors import ExitCode, RaftActorsError  # noqa: E402
from tests.cluster.leader_kills import Account  # noqa: E402
from tests.cluster.ledger import Ledger  # noqa: E402
from tests.durability.load import Load, eventful_limits  # noqa: E402
from tests.durability.order_oracle import DurableLog, NodeTrace, Verdict, judge  # noqa: E402
from tests.durability.shim import FAIL, NAMES, SHORT, SYNC, TORN, WRITE, Control, Shim  # noqa: E402

SEGMENT_BYTES = 16 * 1024
FIRE_TIMEOUT_S = 60.0
END_WITHIN_S = 1.0
SURVIVES_S = 0.3
"""A node that is not gone so long after the fault is taken to go on."""

NEVER = BackOff(first_ms=3_600_000, last_ms=3_600_000)
FAST = RaftTiming(tick_ms=10)


class Fault(NamedTuple):
    """The `at`-th call of a class since the start of the process goes wrong in this way."""

    name: str
    call_class: int
    at: int
    kind: int
    error: int
    ends_with: frozenset[int | None]
    """Exit codes that are right; None: the process goes on."""


def sync_fails(at: int) -> Fault:
    return Fault("sync fails", SYNC, at, FAIL, errno.EIO, frozenset({ExitCode.SYNC_FAILED}))


def no_space(at: int) -> Fault:
    return Fault("no space", WRITE, at, FAIL, errno.ENOSPC, frozenset({ExitCode.DATA_UNREADABLE, None}))


def half_then_no_space(at: int) -> Fault:
    return Fault("half, no space", WRITE, at, TORN, errno.ENOSPC, frozenset({ExitCode.DATA_UNREADABLE, None}))


def short_write(at: int) -> Fault:
    return Fault("short write", WRITE, at, SHORT, 0, frozenset({None}))


def no_name(at: int) -> Fault:
    return Fault("no room for a name", NAMES, at, FAIL, errno.ENOSPC, frozenset({ExitCode.DATA_UNREADABLE, None}))


def interrupted_write(at: int) -> Fault:
    return Fault("interrupted write", WRITE, at, FAIL, errno.EINTR, frozenset({None}))


def interrupted_sync(at: int) -> Fault:
    """Not a failed sync: nothing was tried yet, so the process has to try."""
    return Fault("interrupted sync", SYNC, at, FAIL, errno.EINTR, frozenset({None}))


def interrupted_name(at: int) -> Fault:
    return Fault("interrupted naming", NAMES, at, FAIL, errno.EINTR, frozenset({None}))


KINDS = (
    sync_fails,
    no_space,
    half_then_no_space,
    short_write,
    no_name,
    interrupted_write,
    interrupted_sync,
    interrupted_name,
)


@dataclass
class Outcome:
    """What came out of a list of faults."""

    faults: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_end_ms: float = 0.0
    oracle: Verdict = field(default_factory=lambda: Verdict(1))
    account: Account = field(default_factory=Account)

    @property
    def clean(self) -> bool:
        return self.account.clean and not self.wrong and not self.oracle.early

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.account.as_dict(),
            "faults": self.faults,
            "ends": dict(self.ends),
            "wrong": self.wrong,
            "slowest_end_ms": round(self.slowest_end_ms, 1),
            "traced_acknowledgements": self.oracle.acknowledgements,
            "early": self.oracle.early,
        }


def run(faults: Iterable[Fault], *, snapshots: bool = False, show: bool = False) -> Outcome:
    """Let one fault after the other happen to a node on its own, each in a process of its own.

    With `snapshots` it takes one every few entries and removes what is older, so the faults meet these calls as well;
    the traced acknowledgements are then not compared with the log, of which little is left.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, Shim(Path(folder) / "shim", 1) as shim:
        data = Path(folder) / "cluster"
        plain = Limits(segment_bytes=SEGMENT_BYTES)
        limits = eventful_limits(SEGMENT_BYTES, snapshot_entries=15) if snapshots else plain
        command = shim.command(traced=not snapshots)
        with LocalCluster(
            1, Ledger, data_dir=data, limits=limits, timing=FAST, back_off=NEVER, command=command
        ) as cluster:
            port = int(cluster.addresses[1].rpartition(":")[2])
            with Load(cluster, writers=2, inflight=2) as load:
                load.await_progress(1)
                for fault in faults:
                    _suffer(fault, cluster, shim.control[1], load, outcome)
                    if show:
                        print(f"{fault.name} at call {fault.at}: {dict(outcome.ends)}", flush=True)
                outcome.account = load.account(outcome.faults)
            cluster_id = cluster.cluster_id
        if snapshots:
            return outcome
        trace = NodeTrace(shim.trace(1), port)
        log = DurableLog(data / "node-1" / "data", 1, cluster_id, trace)
        outcome.oracle = judge({1: trace}, {1: log})
    return outcome


def _suffer(fault: Fault, cluster: LocalCluster, control: Control, load: Load, outcome: Outcome) -> None:
    """One process from its start to the fault, and the next one that has to serve again."""
    cluster.kill(1)
    control["fired_ns"] = control["syncs_after"] = 0
    control["fault_class"], control["fault_kind"], control["fault_errno"] = fault.call_class, fault.kind, fault.error
    control["fault_at"] = fault.at
    try:
        cluster.restart(1)
    except RaftActorsError:
        assert control["fired_ns"], "the node does not start, although nothing has failed yet"
    code = _await_end(control, cluster)
    control["fault_at"] = 0
    outcome.faults += 1
    outcome.ends[f"{fault.name}: {'goes on' if code is None else ExitCode(code).name}"] += 1
    if code not in fault.ends_with:
        outcome.wrong.append(f"{fault.name} at call {fault.at}: exit code {code}")
    if fault.call_class == SYNC and bool(control["syncs_after"]) != (fault.error == errno.EINTR):
        outcome.wrong.append(f"{fault.name} at call {fault.at}: {control['syncs_after']} more syncs of the file")
    if code is not None:
        ended_ms = (time.monotonic_ns() - control["fired_ns"]) / 1e6
        outcome.slowest_end_ms = max(outcome.slowest_end_ms, ended_ms)
        if ended_ms > END_WITHIN_S * 1000:
            outcome.wrong.append(f"{fault.name} at call {fault.at}: ended only after {ended_ms:.0f} ms")
        cluster.restart(1)
    load.await_progress(2)


def _await_end(control: Control, cluster: LocalCluster) -> int | None:
    """Wait for the fault, and return the exit code that follows it, None if the process goes on."""
    pause = threading.Event()
    deadline_s = time.monotonic() + FIRE_TIMEOUT_S
    while not control["fired_ns"]:
        assert time.monotonic() < deadline_s, f"no fault within {FIRE_TIMEOUT_S} s"
        pause.wait(0.002)
    process = cluster.nodes[1]
    patience_s = 10 * END_WITHIN_S if control["fault_errno"] == errno.EIO else SURVIVES_S
    while process.is_alive:
        if time.monotonic_ns() - control["fired_ns"] > patience_s * 1e9:
            return None
        pause.wait(0.002)
    return process.exit_code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=60, help="fail each of the first so many calls of each kind")
    parser.add_argument("--snapshots", action="store_true", help="take snapshots and remove old ones all the time")
    arguments = parser.parse_args()
    logging.getLogger("raftactors.cluster").setLevel(logging.CRITICAL)  # Which would tell of every death.
    faults = [kind(at) for kind in KINDS for at in range(1, arguments.calls + 1)]
    outcome = run(faults, snapshots=arguments.snapshots, show=True)
    print(json.dumps(outcome.as_dict()))
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
