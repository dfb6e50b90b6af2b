"""Put old copies of a node's data in its place after the whole cluster was killed, and look what becomes of the writes.

A copy is taken of the leader or of a follower, of its data or of its whole folder, while it stands still or while it
writes, before a snapshot, with or without entries that are replaced later. Then writes are acknowledged by that node
and one more, while the third is down. All are killed, and the node starts from the copy: it must refuse, or lose
nothing together with the third. All within one run of the node, so that the incarnation tells nothing.

The honest side: nodes are killed under load, with conflicting entries too, and none may be refused after that.

Run as a script for the long versions:
python tests/durability/old_copies.py --copies 100
python tests/durability/old_copies.py --kills 100
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors import LocalCluster  # noqa: E402
from raftactors.client import Client, Reply  # noqa: E402
from raftactors.config import RaftTiming  # noqa: E402
from raftactors.errors import CorruptWalError, DataLostError  # noqa: E402
from tests.cluster.leader_kills import Account  # noqa: E402
from tests.cluster.ledger import Ledger  # noqa: E402
from tests.durability.load import Load, eventful_limits  # noqa: E402

NODES = 3
SEGMENT_BYTES = 64 * 1024
SNAPSHOT_ENTRIES = 50
STEP_TIMEOUT_MS = 60_000
COPY_ATTEMPTS = 50
FAST = RaftTiming(tick_ms=20)
POLL_S = 0.01


class Variant(NamedTuple):
    """One way to come to an old copy."""

    of_leader: bool
    whole_folder: bool
    running: bool
    conflict: bool
    late_writes: int


VARIANTS = tuple(
    Variant(*chosen)
    for chosen in itertools.product((True, False), (True, False), (True, False), (True, False), (0, 3, 80))
    if chosen[0] or not chosen[3]  # Only a leader gets entries that nobody else has.
)


@dataclass
class Copies:
    """What came out. `refused_as_damaged` were taken in the middle of a write; `lost` counts acknowledged writes."""

    copies: int = 0
    refused: int = 0
    refused_as_damaged: int = 0
    harmless: int = 0
    lost: int = 0
    late_writes: int = 0
    accepted_after_writes: int = 0
    variants: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        return not self.lost and self.refused + self.refused_as_damaged + self.harmless == self.copies

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "variants"} | {
            "variants": len(self.variants)
        }


class Rig:
    """A cluster that lives through many rounds; use it as a context."""

    def __init__(self, cluster: LocalCluster, spare: Path) -> None:
        self.cluster = cluster
        self.spare = spare
        self._client = cluster.client(timeout_ms=STEP_TIMEOUT_MS)
        self._sent = 0
        self._acknowledged: set[int] = set()

    def write(self, count: int) -> None:
        """Write so many numbers and wait for each acknowledgement."""
        for _ in range(count):
            self.settle(self.submit(self._client, 1))

    def submit(self, client: Client, count: int) -> dict[int, Reply]:
        """Begin to write so many numbers."""
        first = self._sent
        self._sent += count
        return {number: client.submit("append", "writer", number) for number in range(first, self._sent)}

    def settle(self, replies: dict[int, Reply]) -> None:
        """Wait until all of them are acknowledged."""
        for number, reply in replies.items():
            reply.get()
            self._acknowledged.add(number)

    def lost(self) -> int:
        """How many of all acknowledged numbers the cluster does not know."""
        known: set[int] = set()
        with self.cluster.client(timeout_ms=STEP_TIMEOUT_MS) as reader:
            start = 0
            while part := reader.query("part", "writer", start, 1_000):
                known.update(part)
                start += len(part)
        return len(self._acknowledged - known)

    def begin(self, variant: Variant) -> tuple[int, int, int]:
        """The node to copy, the one that will acknowledge with it, and the one that will lag; one of them leads."""
        leader = self.cluster.wait_leader(STEP_TIMEOUT_MS)
        others = [node_id for node_id in self.cluster.nodes if node_id != leader]
        chosen = leader if variant.of_leader else others[0]
        helper = others[0] if variant.of_leader else leader
        return chosen, helper, others[1]

    def copy(self, node_id: int, variant: Variant, number: int) -> Path:
        """Copy what the variant says; a running node writes meanwhile."""
        target = self.spare / f"copy-{number}"
        source = self.place(node_id, variant)
        # By a client that knows this node alone, so that nothing of it waits for a node that is paused.
        address, cluster_id = self.cluster.addresses[node_id], self.cluster.cluster_id
        with Client([address], cluster_id=cluster_id, timeout_ms=STEP_TIMEOUT_MS) as client:
            replies = self._make_conflict(node_id, client) if variant.conflict else {}
            if variant.running:
                self.cluster.resume(node_id)
                replies |= self.submit(client, 50)
            else:
                self.cluster.pause(node_id)
            copy_folder(source, target)
            self.cluster.resume(node_id)
            self.settle(replies)
        return target

    def _make_conflict(self, leader: int, client: Client) -> dict[int, Reply]:
        """Give the leader entries that nobody else has, and let the others go on without it; it stays paused."""
        others = [node_id for node_id in self.cluster.nodes if node_id != leader]
        for node_id in others:
            self.cluster.pause(node_id)
        replies = self.submit(client, 5)
        await_own_entries(self.cluster, leader)
        self.cluster.pause(leader)
        for node_id in others:
            self.cluster.resume(node_id)
        self.cluster.wait_leader(STEP_TIMEOUT_MS)
        return replies

    def place(self, node_id: int, variant: Variant) -> Path:
        """The folder that the variant is about."""
        folder = self.cluster.path / f"node-{node_id}"
        return folder if variant.whole_folder else folder / "data"

    def start_all(self) -> None:
        """Start whatever does not run, and wait for a leader."""
        for node_id, process in self.cluster.nodes.items():
            if not process.is_alive:
                self.cluster.restart(node_id)
        self.cluster.wait_leader(STEP_TIMEOUT_MS)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder that may be written to meanwhile."""
    for _ in range(COPY_ATTEMPTS):
        try:
            shutil.copytree(source, target)
            return
        except shutil.Error:  # A segment or snapshot was renamed or removed before it could be read.
            shutil.rmtree(target)
    raise AssertionError(f"{source} did not stand still for a copy in {COPY_ATTEMPTS} attempts")


def await_own_entries(cluster: LocalCluster, leader: int) -> bool:
    """Wait until a leader without followers has entries of its own; False if it gave up leading before it had any."""
    deadline_s = time.monotonic() + STEP_TIMEOUT_MS / 1000
    pause = threading.Event()
    while True:
        document = cluster.node_statuses().get(leader)
        if document is not None and document["last_index"] > document["commit"]:
            return True
        if document is not None and document["role"] != "leader":
            return False
        assert time.monotonic() < deadline_s, f"node {leader} is not heard of"
        pause.wait(POLL_S)


def put_back(rig: Rig, variant: Variant, outcome: Copies) -> None:
    """One round. Leaves the cluster running; a lost write ends the whole run, since its cluster is not one any more."""
    cluster, number = rig.cluster, outcome.copies
    chosen, helper, lagging = rig.begin(variant)
    rig.write(5)
    copy = rig.copy(chosen, variant, number)
    cluster.kill(lagging)
    rig.write(variant.late_writes)
    for node_id in (chosen, helper):
        cluster.kill(node_id)
    place, true = rig.place(chosen, variant), rig.spare / f"true-{number}"
    shutil.move(place, true)
    shutil.move(copy, place)
    outcome.copies += 1
    outcome.late_writes += variant.late_writes
    outcome.variants[str(variant)] += 1
    try:
        cluster.restart(chosen)
    except (DataLostError, CorruptWalError) as error:
        outcome.refused += isinstance(error, DataLostError)
        outcome.refused_as_damaged += isinstance(error, CorruptWalError)
        assert not cluster.nodes[chosen].is_ready, "it served before it refused"
        shutil.rmtree(place)
        shutil.move(true, place)
    else:
        cluster.restart(lagging)
        cluster.wait_leader(STEP_TIMEOUT_MS)
        lost = rig.lost()
        outcome.lost += lost
        outcome.harmless += not lost
        outcome.accepted_after_writes += bool(variant.late_writes)
        shutil.rmtree(true)
    if not outcome.lost:
        rig.start_all()


def put_copies_back(copies: int, *, seed: int, show: bool = False, has_witness: bool = True) -> Copies:
    """So many rounds on one cluster, each variant in turn; ends with the first loss."""
    rng = random.Random(seed)
    outcome = Copies()
    limits = eventful_limits(SEGMENT_BYTES, snapshot_entries=SNAPSHOT_ENTRIES)
    with (
        tempfile.TemporaryDirectory() as spare,
        LocalCluster(
            NODES,
            Ledger,
            limits=limits,
            timing=FAST,
            start_timeout_ms=STEP_TIMEOUT_MS,
            node_options={} if has_witness else {"witness_path": ""},
        ) as cluster,
    ):
        rig = Rig(cluster, Path(spare))
        variants: list[Variant] = []
        while outcome.copies < copies and not outcome.lost:
            variants = variants or rng.sample(VARIANTS, len(VARIANTS))
            put_back(rig, variants.pop(), outcome)
            if show:
                print(json.dumps(outcome.as_dict()), flush=True)
    return outcome


@dataclass
class Kills:
    """What came out of the honest kills. `conflicts` left a node with entries that were replaced after that."""

    kills: int = 0
    conflicts: int = 0
    refused: list[str] = field(default_factory=list)
    account: Account = field(default_factory=Account)

    @property
    def clean(self) -> bool:
        return self.account.clean and not self.refused

    def as_dict(self) -> dict[str, Any]:
        return {**self.account.as_dict(), "conflicts": self.conflicts, "refused": len(self.refused)}


def kill_under_load(kills: int, *, seed: int, show: bool = False) -> Kills:
    """Kill any subset of the nodes, or leaders that have entries of their own, and start them from what they left."""
    rng = random.Random(seed)
    outcome = Kills()
    limits = eventful_limits(SEGMENT_BYTES, snapshot_entries=SNAPSHOT_ENTRIES)
    with LocalCluster(NODES, Ledger, limits=limits, timing=FAST, start_timeout_ms=STEP_TIMEOUT_MS) as cluster:
        cluster.wait_leader(STEP_TIMEOUT_MS)
        with Load(cluster) as load:
            while outcome.kills < kills and not outcome.refused:
                load.await_progress(rng.randint(1, 20))
                if rng.random() < 0.4:
                    kill_with_conflict(cluster, load, rng, outcome)
                else:
                    kill_some(cluster, rng, outcome)
                if show and outcome.kills % 10 == 0:
                    print(f"{outcome.kills} kills, {load.acknowledged} acknowledged", flush=True)
            outcome.account = load.account(outcome.kills)
    return outcome


def kill_some(cluster: LocalCluster, rng: random.Random, outcome: Kills) -> None:
    """Kill one to all nodes and start them again in any order."""
    chosen = rng.sample(sorted(cluster.nodes), rng.randint(1, NODES))
    for node_id in chosen:
        cluster.kill(node_id)
    for node_id in rng.sample(chosen, len(chosen)):
        start_again(cluster, node_id, outcome)
    outcome.kills += len(chosen)


def kill_with_conflict(cluster: LocalCluster, load: Load, rng: random.Random, outcome: Kills) -> None:
    """Let the leader write what nobody else has; kill it before these entries are replaced, or while they are."""
    leader = cluster.wait_leader(STEP_TIMEOUT_MS)
    others = [node_id for node_id in cluster.nodes if node_id != leader]
    for node_id in others:
        cluster.pause(node_id)
    outcome.conflicts += await_own_entries(cluster, leader)
    dies_first = rng.random() < 0.5
    if dies_first:
        cluster.kill(leader)
    else:
        cluster.pause(leader)
    for node_id in others:
        cluster.resume(node_id)
    load.await_progress(rng.choice((1, 5, 60)))  # After many the old leader needs a snapshot.
    if dies_first:
        start_again(cluster, leader, outcome)
    else:
        cluster.resume(leader)
        load.await_progress(rng.randint(1, 3))
        cluster.kill(leader)
        start_again(cluster, leader, outcome)
    outcome.kills += 1


def start_again(cluster: LocalCluster, node_id: int, outcome: Kills) -> None:
    """Start a node from what its kill left; being refused is what must not happen."""
    try:
        cluster.restart(node_id)
    except DataLostError as error:
        outcome.refused.append(str(error))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=0, help="put so many old copies back")
    parser.add_argument("--kills", type=int, default=0, help="kill so many nodes under load, none of which is refused")
    parser.add_argument("--without-witness", action="store_true", help="the control: copies are not noticed")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("raftactors.cluster").setLevel(logging.CRITICAL)  # Which would tell of every death.
    clean = True
    if arguments.copies:
        copies = put_copies_back(
            arguments.copies, seed=arguments.seed, show=True, has_witness=not arguments.without_witness
        )
        print(json.dumps({"copies": copies.as_dict()}))
        clean = copies.clean
    if arguments.kills:
        kills = kill_under_load(arguments.kills, seed=arguments.seed, show=True)
        print(json.dumps({"kills": kills.as_dict()}))
        clean = clean and kills.clean
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
