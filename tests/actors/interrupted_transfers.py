"""Snapshot transfers between two nodes that exist only as files and clocks, interrupted in every way there is.

Each seed is one transfer: a leader's snapshot on its way to a member while frames are lost, repeated, damaged, the line
is cut, either side is restarted or loses its power, the disk is full, a newer snapshot or another leader comes. What
counts is the receiver's folder: a file under a snapshot's own name is whole or it is a partial install.

Run as a script for many: python -m tests.actors.interrupted_transfers --transfers 200
"""

from __future__ import annotations

import argparse
import errno
import logging
import sys
from collections import Counter, deque
from pathlib import Path
from random import Random

from raftactors.actors.snapshot_intake import SnapshotIntake
from raftactors.actors.snapshot_sender import SnapshotSender
from raftactors.codec.snapshots import (
    Accept,
    Credit,
    Finished,
    SnapshotFrame,
    decode_snapshot_frame,
    encode_snapshot_frame,
)
from raftactors.config import Limits
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import ConfState, Snapshot
from raftactors.errors import CorruptSnapshotError, StorageError, WireError
from raftactors.storage import MemoryFiles
from raftactors.storage.snapshot_file import SnapshotHeader, parse_snapshot_name
from raftactors.storage.snapshots import SnapshotFolder

SNAP = Path("/snap")
CLUSTER_ID = 5
MEMBERS = ConfState((1, 2, 3))
RECEIVER = 3
CHUNK_BYTES = 512
LIMITS = Limits(snapshot_chunk_bytes=CHUNK_BYTES, snapshot_timeout_ms=2_000)
STEP_S = 0.05
STEPS_MAX = 4_000
FAULTS = (
    "lose",
    "repeat",
    "damage_frame",
    "damage_chunk",
    "cut",
    "restart",
    "power",
    "sender",
    "full",
    "newer",
    "leader",
)


def message(sender: int, term: int, snapshot: Snapshot) -> Message:
    return Message(MessageType.SNAP, RECEIVER, sender, term, snapshot=snapshot)


def content_of(index: int, chunks: int) -> bytes:
    """What the snapshot at `index` holds, on every node."""
    return Random(index).randbytes(chunks * CHUNK_BYTES - 100)


class Leader:
    """The sending side of one node."""

    def __init__(self, run: Run, node_id: int) -> None:
        self.node_id = node_id
        self.reports: list[bool] = []
        files = MemoryFiles()
        files.mkdir(SNAP)
        self._run = run
        self.folder = SnapshotFolder(files, SNAP, cluster_id=CLUSTER_ID)
        self.start()

    def start(self) -> None:
        """Begin with nothing under way, as after a restart."""
        self.sender = SnapshotSender(
            folder=self.folder,
            limits=LIMITS,
            send=lambda to, frame: self._run.put(self.node_id, to, frame),
            on_report=lambda node_id, arrived: self.reports.append(arrived),
            on_damaged=lambda index: None,
            now_s=self._run.now_s,
        )

    def has(self, snapshot: Snapshot, chunks: int) -> None:
        """Take this snapshot."""
        header = SnapshotHeader(CLUSTER_ID, snapshot, 2, CHUNK_BYTES)
        self.folder.save(header, [content_of(snapshot.index, chunks)])


class Run:
    """One transfer and what befalls it."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now_s = 100.0
        self.counts: Counter[str] = Counter()
        self._line: deque[tuple[int, int, bytes]] = deque()
        self._cut_until_s = 0.0
        self.chunks = self.rng.randrange(1, 40)
        self.term = 4
        self.snapshot = Snapshot(50, 3, MEMBERS)
        self.leaders = {node_id: Leader(self, node_id) for node_id in (1, 2)}
        for leader in self.leaders.values():
            leader.has(self.snapshot, self.chunks)
        self.leader = self.leaders[1]
        self.files = MemoryFiles()
        self.files.mkdir(SNAP)
        self.files.fsync_dir(Path("/"))
        self.arrived: list[Message] = []
        self._start_receiver()
        faults = self.rng.sample(FAULTS, self.rng.randrange(1, 5))
        # Where on its way the transfer is when each of them comes, in frames.
        self.faults = {self.rng.randrange(1, 6 * self.chunks + 6): fault for fault in faults}
        self._frames = 0

    def _start_receiver(self) -> None:
        self.folder = SnapshotFolder(self.files, SNAP, cluster_id=CLUSTER_ID)
        self.folder.tidy([])
        self.intake = SnapshotIntake(
            folder=self.folder,
            node_id=RECEIVER,
            limits=LIMITS,
            send=lambda to, frame: self.put(RECEIVER, to, frame),
            on_arrived=self._on_arrived,
        )

    def _on_arrived(self, arrived: Message) -> None:
        assert arrived.snapshot is not None
        self.arrived.append(arrived)
        # What the core is told of must be whole and durable: it survives the loss of everything that is not.
        reader = self.folder.reader(arrived.snapshot.term, arrived.snapshot.index)
        content = b"".join(map(bytes, reader.chunks()))
        reader.close()
        assert content == content_of(arrived.snapshot.index, self.chunks), "partial install"

    def put(self, sender: int, to: int, frame: SnapshotFrame) -> bool:
        """Put a frame on the line, or lose it with the connection."""
        if self.now_s < self._cut_until_s:
            return False
        self._line.append((sender, to, encode_snapshot_frame(frame)))
        return True

    def deliver(self) -> None:
        """Deliver what is on the line, one frame after the other, with what befalls it."""
        for _ in range(len(self._line)):
            if not self._line:
                return
            sender, to, body = self._line.popleft()
            self._frames += 1
            fault = self.faults.pop(self._frames, "")
            if fault:
                self.counts[fault] += 1
                changed = self._befall(fault, body)
                if changed is None:
                    continue
                body = changed
            self._hand_over(sender, to, body)
            if fault == "repeat":
                self._hand_over(sender, to, body)

    def _hand_over(self, sender: int, to: int, body: bytes) -> None:
        try:
            frame = decode_snapshot_frame(body, chunk_bytes_max=LIMITS.peer_frame_bytes_max)
        except WireError:
            return
        if to == RECEIVER:
            self.intake.take_frame(sender, frame, self.now_s)
        elif isinstance(frame, (Accept, Credit, Finished)):
            self.leaders[to].sender.take_frame(sender, frame, self.now_s)

    def _befall(self, fault: str, body: bytes) -> bytes | None:
        """Let it happen; returns the frame that goes on, None if it is gone."""
        rng = self.rng
        if fault in ("lose", "damage_frame"):
            return None  # A damaged frame does not pass the checksum of its envelope.
        if fault == "damage_chunk":
            # Damage that the envelope knows nothing of, as from a bad sender.
            position = rng.randrange(len(body))
            return body[:position] + bytes((body[position] ^ 1 << rng.randrange(8),)) + body[position + 1 :]
        if fault == "cut":
            self._line.clear()
            self._cut_until_s = self.now_s + rng.choice((0.2, 1.0, 5.0))
            return None
        if fault in ("restart", "power"):
            self._line.clear()
            if fault == "power":
                self.files.crash(rng)
            else:
                self.files.end_process()
            self.check_folder()
            self._start_receiver()
            return None
        if fault == "sender":
            self._line.clear()
            self.leader.sender.close()
            self.leader.start()
            return None
        if fault == "full":
            operation = rng.choice(("pwrite", "pwrite", "create", "rename", "unlink"))
            self.files.fail(operation, nth=rng.randrange(1, 4 if operation == "pwrite" else 2), error=errno.ENOSPC)
        elif fault == "newer":
            self.snapshot = self.snapshot._replace(index=self.snapshot.index + 10)
            for leader in self.leaders.values():
                leader.has(self.snapshot, self.chunks)
            self._ask()
        elif fault == "leader":
            self.term += 1
            self.leader.sender.cancel(self.term)
            self.leader = self.leaders[3 - self.leader.node_id]
            self.intake.term = max(self.intake.term, self.term)
            self._ask()
        return body

    def _ask(self) -> None:
        self.leader.sender.take(message(self.leader.node_id, self.term, self.snapshot), self.now_s)

    def check_folder(self) -> None:
        """Every file under a snapshot's name is a whole snapshot."""
        for name in self.files.listdir(SNAP):
            parsed = parse_snapshot_name(name)
            if parsed is None:
                continue
            try:
                reader = SnapshotFolder(self.files, SNAP, cluster_id=CLUSTER_ID).reader(*parsed)
                reader.verify()
                reader.close()
            except (CorruptSnapshotError, StorageError) as error:
                raise AssertionError(f"partial install: {error}") from error

    def complete(self) -> int:
        """Run until the newest snapshot has arrived; returns the steps that took. The core's part: it asks again."""
        self._ask()
        for step in range(STEPS_MAX):
            self.deliver()
            self.now_s += STEP_S
            for leader in self.leaders.values():
                leader.sender.poll(self.now_s)
            self.intake.poll(self.now_s)
            self.check_folder()
            if not self.faults and not self._line:
                newest = max((m.snapshot.index for m in self.arrived if m.snapshot is not None), default=0)
                if newest == self.snapshot.index and not self.leader.sender.progress():
                    return step
            if step % 10 == 9:
                # After a failure the core probes, and comes back with the next heartbeat answer.
                self._ask()
                self.faults = {number: fault for number, fault in self.faults.items() if number > self._frames}
        raise AssertionError(f"not complete after {STEPS_MAX} steps; {self.leader.sender.progress()}")


def run_many(seeds: range) -> Counter[str]:
    """Run them all; returns how often what befell them. Raises AssertionError for a partial install or a standstill."""
    met: Counter[str] = Counter()
    for seed in seeds:
        run = Run(seed)
        try:
            run.complete()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        met += run.counts
        met["transfers"] += 1
    return met


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Interrupt snapshot transfers.")
    parser.add_argument("--transfers", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=1_000)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    met = run_many(range(options.first_seed, options.first_seed + options.transfers))
    faults = ", ".join(f"{name} {count}" for name, count in sorted(met.items()) if name != "transfers")
    print(f"{met['transfers']} interrupted transfers, 0 partial installs, all complete; {faults}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
