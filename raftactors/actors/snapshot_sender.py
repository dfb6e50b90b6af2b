"""Giving snapshots to members that need them: offers, credit, resumption, throttle. No socket, no clock of its own."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from raftactors.codec.snapshots import (
    Abort,
    Accept,
    Chunk,
    Credit,
    Finished,
    Offer,
    Outcome,
    Restart,
    SnapshotFrame,
)
from raftactors.config import Limits
from raftactors.core.messages import Message
from raftactors.core.types import Snapshot
from raftactors.errors import CorruptSnapshotError, StorageError
from raftactors.storage.snapshot_file import SnapshotReader
from raftactors.storage.snapshots import SnapshotFolder

log = logging.getLogger("raftactors.node")

OFFERS_A_TIMEOUT = 5
"""How often a transfer that makes no progress is offered again before it is given up."""

BURST_S = 0.1
"""How much of the allowed rate may be sent at once."""


class FrameSender(Protocol):
    """Hands a frame to the socket of a member; False if it takes none now."""

    def __call__(self, to: int, frame: SnapshotFrame) -> bool: ...


class Throttle:
    """Lets bytes pass at a rate, on average; `rate` is in bytes a second."""

    def __init__(self, rate: int, now_s: float) -> None:
        self._rate = rate
        self._room = rate * BURST_S
        self._at_s = now_s

    def open(self, now_s: float) -> bool:
        """Whether something may be sent now."""
        self._room = min(self._rate * BURST_S, self._room + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return self._room > 0

    def passed(self, length: int) -> None:
        """So many bytes were sent."""
        self._room -= length


class Transfer:
    """One snapshot on its way to one member."""

    def __init__(self, number: int, message: Message, now_s: float) -> None:
        assert message.snapshot is not None
        self.number = number
        self.to = message.to
        self.term = message.term
        self.snapshot: Snapshot = message.snapshot
        self.reader: SnapshotReader | None = None
        self.accepted = False
        self.next = 0
        self.held = 0
        self.progress_s = now_s
        self.offer_due_s = now_s

    def close(self) -> None:
        """Give the file back."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None


class SnapshotSender:
    """All transfers that this node gives; at most `snapshot_transfers_max` at a time, the others wait their turn.

    `on_report` is called once for each message taken, with the member's id and whether the snapshot arrived, except
    where a later message for the same member took its place. `on_damaged` is called when a file does not verify.
    """

    def __init__(
        self,
        *,
        folder: SnapshotFolder,
        limits: Limits,
        send: FrameSender,
        on_report: Callable[[int, bool], None],
        on_damaged: Callable[[int], None],
        now_s: float,
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._send = send
        self._on_report = on_report
        self._on_damaged = on_damaged
        self._throttle = Throttle(limits.snapshot_bytes_per_second, now_s)
        self._timeout_s = limits.snapshot_timeout_ms / 1000
        self._active: dict[int, Transfer] = {}
        self._waiting: deque[Message] = deque()
        self._numbers = 0

    def take(self, message: Message, now_s: float) -> None:
        """Send the snapshot of this SNAP message. One of the same term that is under way already goes on."""
        active = self._active.get(message.to)
        if active is not None and (active.term, active.snapshot) == (message.term, message.snapshot):
            return
        if active is not None:
            self._send(active.to, Abort(active.number))
            self._remove(active)
        self._waiting = deque(waiting for waiting in self._waiting if waiting.to != message.to)
        self._waiting.append(message)
        self.poll(now_s)

    def take_frame(self, sender: int, frame: SnapshotFrame, now_s: float) -> None:
        """Take what a receiver says; what does not belong to a transfer under way is ignored."""
        transfer = self._active.get(sender)
        if transfer is None or transfer.number != frame.transfer:
            return
        if isinstance(frame, Accept):
            self._accepted(transfer, frame, now_s)
        elif isinstance(frame, Credit) and transfer.held < frame.next <= transfer.next:
            transfer.held = frame.next
            self._moved(transfer, now_s)
        elif isinstance(frame, Finished):
            arrived = frame.outcome is Outcome.ARRIVED
            if not arrived:
                log.warning("node %d did not take the snapshot: %s", sender, frame.outcome.name)
            self._end(transfer, arrived)

    def poll(self, now_s: float) -> None:
        """Start what may start, send what credit and rate allow, offer again or give up what stands still."""
        while self._waiting and len(self._active) < self._limits.snapshot_transfers_max:
            self._start(self._waiting.popleft(), now_s)
        for transfer in list(self._active.values()):
            if now_s - transfer.progress_s >= self._timeout_s:
                log.warning(
                    "the snapshot at index %d for node %d made no progress for %d ms; given up",
                    transfer.snapshot.index,
                    transfer.to,
                    self._limits.snapshot_timeout_ms,
                )
                self._send(transfer.to, Abort(transfer.number))
                self._end(transfer, arrived=False)
            elif now_s >= transfer.offer_due_s:
                self._offer(transfer, now_s)
        # Chunk by chunk in turn, so that two transfers share the rate.
        moving = [transfer for transfer in self._active.values() if transfer.accepted]
        while moving:
            moving = [transfer for transfer in moving if self._send_chunk(transfer, now_s)]

    def cancel(self, before_term: int) -> None:
        """Give up everything that an earlier term began, because this node does not lead there any more."""
        for transfer in [transfer for transfer in self._active.values() if transfer.term < before_term]:
            self._send(transfer.to, Abort(transfer.number))
            self._end(transfer, arrived=False)
        stale = [message for message in self._waiting if message.term < before_term]
        self._waiting = deque(message for message in self._waiting if message.term >= before_term)
        for message in stale:
            self._on_report(message.to, False)

    def progress(self) -> list[dict[str, object]]:
        """What the status document shows."""
        return [
            {
                "to": transfer.to,
                "index": transfer.snapshot.index,
                "sent_chunks": transfer.held,
                "chunks": 0 if transfer.reader is None else transfer.reader.trailer.chunks,
                "bytes": 0 if transfer.reader is None else transfer.reader.trailer.file_bytes,
            }
            for transfer in self._active.values()
        ]

    def close(self) -> None:
        """Give all files back."""
        for transfer in self._active.values():
            transfer.close()
        self._active.clear()

    def _start(self, message: Message, now_s: float) -> None:
        self._numbers += 1
        transfer = Transfer(self._numbers, message, now_s)
        self._active[message.to] = transfer
        try:
            transfer.reader = self._folder.reader(transfer.snapshot.term, transfer.snapshot.index)
        except (StorageError, OSError) as error:
            self._damaged(transfer, error)
            return
        if transfer.reader.header.chunk_bytes + 4096 > self._limits.peer_frame_bytes_max:
            log.error("%s: its chunks are larger than peer_frame_bytes_max allows", transfer.reader.path)
            self._end(transfer, arrived=False)

    def _offer(self, transfer: Transfer, now_s: float) -> None:
        assert transfer.reader is not None
        trailer = transfer.reader.trailer
        transfer.accepted = False
        transfer.offer_due_s = now_s + self._timeout_s / OFFERS_A_TIMEOUT
        offer = Offer(
            transfer.number,
            transfer.term,
            trailer.chunks,
            trailer.content_bytes,
            trailer.file_bytes,
            trailer.sha256,
            transfer.reader.header_block,
        )
        if not self._send(transfer.to, offer):
            # Without a connection the next attempt need not wait for an answer that cannot come.
            transfer.offer_due_s = now_s

    def _accepted(self, transfer: Transfer, accept: Accept, now_s: float) -> None:
        """The receiver says how far it is; that it holds the same bytes is checked before anything follows them."""
        reader = transfer.reader
        if reader is None or accept.next > reader.trailer.chunks:
            return
        digest = hashlib.sha256(reader.header_block)
        try:
            for number in range(accept.next):
                digest.update(reader.record(number))
        except (CorruptSnapshotError, OSError) as error:
            self._damaged(transfer, error)
            return
        if digest.digest() != accept.digest:
            self._send(transfer.to, Restart(transfer.number))
            return
        transfer.accepted = True
        if accept.next > transfer.held:
            self._moved(transfer, now_s)
        transfer.next = transfer.held = accept.next
        transfer.offer_due_s = now_s + self._timeout_s / OFFERS_A_TIMEOUT

    def _send_chunk(self, transfer: Transfer, now_s: float) -> bool:
        """Send the next chunk if it may be sent; False if nothing more can be done for this transfer now."""
        reader = transfer.reader
        if reader is None or transfer.next >= reader.trailer.chunks:
            return False
        if transfer.next >= transfer.held + self._limits.snapshot_window_chunks or not self._throttle.open(now_s):
            return False
        try:
            record = reader.record(transfer.next)
        except (CorruptSnapshotError, OSError) as error:
            self._damaged(transfer, error)
            return False
        if not self._send(transfer.to, Chunk(transfer.number, transfer.next, record)):
            return False
        transfer.next += 1
        self._throttle.passed(len(record))
        return True

    def _moved(self, transfer: Transfer, now_s: float) -> None:
        transfer.progress_s = now_s
        transfer.offer_due_s = now_s + self._timeout_s / OFFERS_A_TIMEOUT

    def _damaged(self, transfer: Transfer, error: Exception) -> None:
        log.error("the snapshot at index %d cannot be sent: %s", transfer.snapshot.index, error)
        self._send(transfer.to, Abort(transfer.number))
        self._end(transfer, arrived=False)
        self._on_damaged(transfer.snapshot.index)

    def _end(self, transfer: Transfer, arrived: bool) -> None:
        self._remove(transfer)
        self._on_report(transfer.to, arrived)

    def _remove(self, transfer: Transfer) -> None:
        transfer.close()
        self._active.pop(transfer.to, None)
