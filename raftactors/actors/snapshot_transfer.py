"""The actor that owns the snapshot socket."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    LeaderChanged,
    SendSnapshot,
    SnapshotArrived,
    SnapshotReports,
    TakeSnapshot,
    Tick,
    TransferReport,
)
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
from raftactors.config import NodeConfig
from raftactors.core.messages import Message
from raftactors.errors import WireError
from raftactors.storage.snapshots import SnapshotFolder
from raftactors.transport import SnapshotTransport

RECEIVE_FRAMES_MAX = 16
"""Frames taken from the socket in one turn, so that acknowledgements are never kept waiting long."""


class SnapshotTransferActor(BatchActor):
    """Gives snapshots to members that need them and takes them from a leader, on a socket and a thread of their own.

    Consensus hears of the outcome of everything that it handed over, and of a snapshot that arrived once all of it is
    durable.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        config: NodeConfig,
        network: SnapshotTransport | None,
        folder: SnapshotFolder,
        consensus: Mailbox,
        application: Mailbox,
        monitor: Mailbox,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(mailbox)
        self._network = network
        self._consensus = consensus
        self._application = application
        self._monitor = monitor
        self._node_id = config.node_id
        self._clock = clock
        self._chunk_bytes_max = config.limits.peer_frame_bytes_max
        self._drops: Counter[str] = Counter()
        self._reports: list[tuple[int, bool]] = []
        self._published = TransferReport([], None, {})
        self._sender = SnapshotSender(
            folder=folder,
            limits=config.limits,
            send=self._send,
            on_report=lambda node_id, arrived: self._reports.append((node_id, arrived)),
            on_damaged=self._on_damaged,
            now_s=clock(),
        )
        self._intake = SnapshotIntake(
            folder=folder,
            node_id=config.node_id,
            limits=config.limits,
            send=self._send,
            on_arrived=self._on_arrived,
        )
        self.handlers = {SendSnapshot: self._on_send, LeaderChanged: self._on_leader_changed, Tick: self._on_tick}

    def _on_send(self, work: SendSnapshot) -> None:
        self._sender.take(work.message, self._clock())

    def _on_leader_changed(self, change: LeaderChanged) -> None:
        self._intake.term = max(self._intake.term, change.term)
        # A transfer of an earlier term, or of one in which this node leads no more, serves nobody.
        self._sender.cancel(change.term if change.leader_id == self._node_id else change.term + 1)

    def _on_tick(self, tick: Tick) -> None:
        tick.waiting = False
        if self._network is not None:
            self._network.tend()
        drops = {} if self._network is None else self._network.drops
        report = TransferReport(self._sender.progress(), self._intake.progress(), {**drops, **self._drops})
        if report != self._published:
            self._published = report
            self._monitor.tell(report, Lane.CONTROL)

    def _on_damaged(self, index: int) -> None:
        self._application.tell(TakeSnapshot(), Lane.CONTROL)

    def _on_arrived(self, message: Message) -> None:
        self._consensus.tell(SnapshotArrived(message), Lane.STORAGE)

    def _send(self, to: int, frame: SnapshotFrame) -> bool:
        return self._network is not None and self._network.send(to, encode_snapshot_frame(frame))

    def flush(self) -> None:
        """Take what has arrived, then send what may be sent."""
        now_s = self._clock()
        if self._network is not None:
            for sender, body in self._network.receive(RECEIVE_FRAMES_MAX):
                try:
                    frame = decode_snapshot_frame(body, chunk_bytes_max=self._chunk_bytes_max)
                except WireError as error:
                    self._drops[error.reason] += 1
                    continue
                self.mailbox.still_working()
                taker = self._sender if isinstance(frame, (Accept, Credit, Finished)) else self._intake
                taker.take_frame(sender, frame, now_s)
        self._sender.poll(now_s)
        self._intake.poll(now_s)
        if self._reports:
            reports, self._reports = self._reports, []
            self._consensus.tell(SnapshotReports(reports), Lane.STORAGE)

    def shut_down(self) -> None:
        """Close files and sockets; what has arrived of a snapshot is kept."""
        self._sender.close()
        self._intake.close()
        if self._network is not None:
            self._network.close()
