"""Cut the power of a whole cluster, again and again under load, and account for every acknowledged write.

Each node keeps its data on an ext4 of its own, in a file behind a loop device. A cut kills the nodes first (a sync that
is under way during the cut may otherwise succeed falsely), then shuts the file systems down without flushing their
journals: everything that was not synced is gone, as it is when the power fails. Then they are mounted again and the
nodes are started. Needs root and loop devices.

Run as a script for the long version: python tests/durability/power_cuts.py --cuts 100
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Started as a script, the folder of the tests is not on the path.
    sys.path.insert(0, str(ROOT))

from raftactors import LocalCluster  # noqa: E402
from raftactors.cluster.node_folder import witness_path  # noqa: E402
from raftactors.cluster.process import NODE_COMMAND  # noqa: E402
from raftactors.config import Limits, RaftTiming  # noqa: E402
from tests.cluster.leader_kills import Account  # noqa: E402
from tests.cluster.ledger import Ledger  # noqa: E402
from tests.durability.load import Load, eventful_limits  # noqa: E402

EXT4_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32) of the kernel's ext4.h."""

GOING_FLAGS_NOLOGFLUSH = 2
SEGMENT_BYTES = 256 * 1024
DISK_BYTES = 48 * 1024 * 1024
TOOLS = ("mkfs.ext4", "losetup", "mount", "umount")
COMMAND_TIMEOUT_S = 60.0
FAST = RaftTiming(tick_ms=20)


def missing() -> str:
    """Why power cannot be cut here; empty when it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    absent = [name for name in TOOLS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    try:
        with tempfile.TemporaryDirectory() as folder, LoopDisk(Path(folder)):
            return ""
    except subprocess.SubprocessError as error:
        return f"a loop device cannot be mounted here: {error}"


def _run(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
    ).stdout.strip()  # fmt: skip


class LoopDisk:
    """An ext4 in a file, mounted at `mount_point` while the block lasts."""

    def __init__(self, folder: Path, *, disk_bytes: int = DISK_BYTES) -> None:
        self._folder = folder
        self._image = folder / "disk"
        self._disk_bytes = disk_bytes
        self.device = ""
        self.mount_point = folder / "mounted"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.mount_point.mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._disk_bytes)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", str(self._image))
        try:
            self.device = _run("losetup", "--find", "--show", str(self._image))
            self.mount()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._release()

    def mount(self) -> None:
        """Mount it; the journal is replayed as after a power cut."""
        _run("mount", "-t", "ext4", self.device, str(self.mount_point))

    def cut(self) -> None:
        """Lose everything that was not synced, and unmount. Nobody may have a file open any more."""
        descriptor = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("<I", GOING_FLAGS_NOLOGFLUSH))
        finally:
            os.close(descriptor)
        _run("umount", str(self.mount_point))

    def _release(self) -> None:
        if os.path.ismount(self.mount_point):
            # Lazily: whatever a failed test left open there, the device must not stay.
            _run("umount", "--lazy", str(self.mount_point))
        if self.device:
            _run("losetup", "--detach", self.device)
            self.device = ""


class DiskCluster:
    """A cluster of `Ledger`s whose nodes keep their data on loop disks of their own; use it as a context."""

    def __init__(
        self,
        folder: Path,
        nodes: int,
        *,
        disk_bytes: int = DISK_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        timing: RaftTiming = FAST,
        command: tuple[str, ...] = NODE_COMMAND,
        snapshots: bool = True,
    ) -> None:
        self._folder = folder
        self._nodes = nodes
        self._disk_bytes = disk_bytes
        self._limits = eventful_limits(segment_bytes) if snapshots else Limits(segment_bytes=segment_bytes)
        self._timing = timing
        self._command = command
        self._resources = ExitStack()
        self.disks: dict[int, LoopDisk] = {}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            data = self._folder / "cluster"
            cluster = LocalCluster(
                self._nodes, Ledger, data_dir=data, limits=self._limits, timing=self._timing, command=self._command
            )
            # The folders of the nodes are made where any cluster has them, and then moved to disks of their own.
            with cluster:
                pass
            for node_id in range(1, self._nodes + 1):
                disk = LoopDisk(self._folder / f"disk-{node_id}", disk_bytes=self._disk_bytes)
                self.disks[node_id] = undo.enter_context(disk)
                place = data / f"node-{node_id}" / "data"
                shutil.copytree(place, disk.mount_point / "data")
                shutil.rmtree(place)
                place.symlink_to(disk.mount_point / "data")
                witness = witness_path(data, node_id)
                shutil.move(witness, disk.mount_point / "witness")
                witness.symlink_to(disk.mount_point / "witness")
            os.sync()
            self.cluster = undo.enter_context(cluster)
            self.cluster.wait_leader(30_000)
            self._resources = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resources.__exit__(kind, error, traceback)

    def cut_power(self, rng: random.Random) -> None:
        """Kill all nodes, cut the power of all disks, and start everything again in any order."""
        order = rng.sample(sorted(self.disks), len(self.disks))
        for node_id in order:
            self.cluster.kill(node_id)
        for node_id in order:
            self.disks[node_id].cut()
        for node_id in order:
            self.disks[node_id].mount()
        for node_id in order:
            self.cluster.restart(node_id)


@dataclass
class Cuts:
    """What came out."""

    cuts: int = 0
    failed_boots: int = 0
    outage_ms: list[float] = field(default_factory=list)
    account: Account = field(default_factory=Account)

    @property
    def clean(self) -> bool:
        return self.account.clean and not self.failed_boots

    def as_dict(self) -> dict[str, Any]:
        outages = sorted(self.outage_ms)
        return {
            **self.account.as_dict(),
            "cuts": self.cuts,
            "failed_boots": self.failed_boots,
            "outage_ms_p50": round(outages[len(outages) // 2]),
            "outage_ms_max": round(outages[-1]),
        }


def run(
    cuts: int,
    *,
    nodes: int = 3,
    seed: int = 1,
    show: bool = False,
    command: tuple[str, ...] = NODE_COMMAND,
    goes_on: bool = True,
    snapshots: bool = True,
) -> Cuts:
    """Do it, and account for it. A node that does not boot raises at once: there is no cluster to go on with.

    Without `snapshots` none are taken, whose syncs would make other files durable as well and so hide a planted bug.
    Without `goes_on` nobody waits for writes after a cut: where a planted bug lost sessions, their clients have none.
    """
    rng = random.Random(seed)
    outcome = Cuts()
    with (
        tempfile.TemporaryDirectory() as folder,
        DiskCluster(Path(folder), nodes, command=command, snapshots=snapshots) as powered,
        Load(powered.cluster) as load,
    ):
        while outcome.cuts < cuts:
            load.await_progress(rng.randint(5, 60))
            started_s = time.monotonic()
            powered.cut_power(rng)
            if goes_on:
                load.await_progress(1)
            outcome.outage_ms.append((time.monotonic() - started_s) * 1000)
            outcome.cuts += 1
            if show and outcome.cuts % 10 == 0:
                print(f"{outcome.cuts} cuts, {load.acknowledged} acknowledged", flush=True)
        outcome.account = load.account(cuts * nodes)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    reason = missing()
    if reason:
        print(f"no power can be cut here: {reason}", file=sys.stderr)
        return 2
    logging.getLogger("raftactors.cluster").setLevel(logging.CRITICAL)  # Which would tell of every death.
    outcome = run(arguments.cuts, nodes=arguments.nodes, seed=arguments.seed, show=True)
    print(json.dumps(outcome.as_dict()))
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
