"""The actor that watches the others and answers what the node is doing."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import (
    AdminRequest,
    Applied,
    GuardReport,
    RaftReport,
    Replies,
    ScrubReport,
    SnapshotEnded,
    TransferReport,
    TransportReport,
)
from raftactors.codec import replies
from raftactors.config import Durability, NodeConfig
from raftactors.core.types import Snapshot
from raftactors.errors import ExitCode
from raftactors.storage.encoding import ENCODER

CHECKS = 4
"""Consecutive looks at the same unfinished batch after which its actor counts as hung."""


@dataclass(slots=True)
class _Watch:
    mailbox: Mailbox
    limit_ms: int
    batches: int = -1
    stuck_since_s: float = 0.0
    checks: int = 0


def end_hung_process(name: str) -> None:
    """Print where every thread stands and end the process; a half-alive node would mislead its peers."""
    stream = sys.__stderr__
    # A full disk or a closed stream must not keep the process from its end.
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            os.write(stream.fileno(), f"raftactors: the {name} actor hangs; the process ends\n".encode())
            faulthandler.dump_traceback(file=stream)
    os._exit(ExitCode.ACTOR_HUNG)


class Watchdog:
    """Finds actors that work on one batch for too long.

    An actor is hung when the same batch is unfinished at `CHECKS` looks in a row that span its limit. Looks are made by
    the monitor's own clock: while the whole process is paused no look is made, so a resumed node is not ended.
    """

    def __init__(self, limits_ms: dict[Mailbox, int], *, on_hung: Callable[[str], None] = end_hung_process) -> None:
        self._watches = [_Watch(mailbox, limit_ms) for mailbox, limit_ms in limits_ms.items()]
        self._on_hung = on_hung

    def check(self, now_s: float) -> None:
        """Look at every mailbox once; at least a quarter of the smallest limit should lie between two looks."""
        for watch in self._watches:
            if not watch.mailbox.busy or watch.mailbox.batches != watch.batches:
                watch.batches, watch.checks, watch.stuck_since_s = watch.mailbox.batches, 0, now_s
                continue
            watch.checks += 1
            if watch.checks >= CHECKS and (now_s - watch.stuck_since_s) * 1000 >= watch.limit_ms:
                self._on_hung(watch.mailbox.name)


class Monitor(BatchActor):
    """Collects what the other actors publish, answers status requests from it, and runs the watchdog."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        config: NodeConfig,
        incarnation: int,
        gateway: Mailbox,
        watchdog: Watchdog,
        durability: Durability,
        snapshot: Snapshot = Snapshot(),  # noqa: B008  # immutable
        on_leader: Callable[[int], None] = lambda leader_id: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(mailbox)
        self._config = config
        self._incarnation = incarnation
        self._gateway = gateway
        self._watchdog = watchdog
        self._durability = durability
        self._on_leader = on_leader
        self._clock = clock
        self._started_s = clock()
        self._check_period_s = config.watchdog_ms / 1000 / CHECKS
        self._check_due_s = self._started_s + self._check_period_s
        self._raft = RaftReport("follower", 0, 0, 0, 0)
        self._applied = Applied(0, "")
        self._transport = TransportReport([], {})
        self._transfers = TransferReport([], None, {})
        self._scrub = ScrubReport()
        self._guard = GuardReport({}, {})
        self._snapshot = SnapshotEnded(snapshot.index, snapshot.term)
        self._snapshot_error = ""
        mailbox.idle_timeout_s = self._check_period_s
        self.handlers = {
            RaftReport: self._on_raft,
            Applied: self._on_applied,
            TransportReport: self._on_transport,
            SnapshotEnded: self._on_snapshot,
            TransferReport: self._on_transfers,
            ScrubReport: self._on_scrub,
            GuardReport: self._on_guard,
            AdminRequest: self._on_admin,
        }

    def _on_raft(self, report: RaftReport) -> None:
        self._raft = report
        self._on_leader(report.leader_id)

    def _on_applied(self, applied: Applied) -> None:
        self._applied = applied

    def _on_transport(self, report: TransportReport) -> None:
        self._transport = report

    def _on_snapshot(self, ended: SnapshotEnded) -> None:
        self._snapshot_error = ended.error
        if not ended.error:
            self._snapshot = ended

    def _on_transfers(self, report: TransferReport) -> None:
        self._transfers = report

    def _on_scrub(self, report: ScrubReport) -> None:
        self._scrub = report

    def _on_guard(self, report: GuardReport) -> None:
        self._guard = report

    def _on_admin(self, request: AdminRequest) -> None:
        body = replies.encode_document(self._raft.leader_id, self.status(), index=self._applied.applied_index)
        self._gateway.tell(Replies([(request.pending_id, body)]), Lane.STORAGE)

    def status(self) -> dict[str, object]:
        """The status document; every part is at most one tick old."""
        return {
            "node_id": self._config.node_id,
            "role": self._raft.role,
            "term": self._raft.term,
            "leader_id": self._raft.leader_id,
            "leader_silence_ticks_max": self._raft.leader_silence_ticks_max,
            "commit": self._raft.commit_index,
            "applied": self._applied.applied_index,
            "first_index": self._raft.first_index,
            "last_index": self._raft.last_index,
            "snapshot": {
                "index": self._snapshot.index,
                "term": self._snapshot.term,
                "bytes": self._snapshot.bytes,
                "error": self._snapshot_error,
            },
            "snapshot_transfers": {
                "sending": self._transfers.sending,
                "receiving": self._transfers.receiving,
                "drops": self._transfers.drops,
            },
            "digest": self._applied.digest,
            "incarnation": self._incarnation,
            "application": self._config.application,
            "durability": str(self._durability),
            "encoder": ENCODER,
            "disk": self._raft.disk,
            "scrub": {"passes": self._scrub.passes, "bytes": self._scrub.bytes, "damage": [*self._scrub.damage]},
            "uptime_ms": round((self._clock() - self._started_s) * 1000),
            "connected": self._transport.connected,
            "drops": self._transport.drops,
            "connections": {"open": self._guard.open, "cut": self._guard.cut},
        }

    def flush(self) -> None:
        """Run the watchdog when it is due."""
        now_s = self._clock()
        if now_s >= self._check_due_s:
            self._check_due_s = now_s + self._check_period_s
            self._watchdog.check(now_s)
