"""Taking a snapshot from the leader: one at a time, checked at every step. No socket, no clock of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable

from raftactors.actors.snapshot_sender import FrameSender
from raftactors.codec.snapshots import Abort, Accept, Chunk, Credit, Finished, Offer, Outcome, Restart, SnapshotFrame
from raftactors.config import Limits
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import Snapshot
from raftactors.errors import CorruptSnapshotError, StorageError
from raftactors.storage.snapshot_file import SnapshotHeader, SnapshotTrailer, decode_header, make_trailer
from raftactors.storage.snapshot_receiving import SnapshotReceiver
from raftactors.storage.snapshots import SnapshotFolder

log = logging.getLogger("raftactors.node")


class _Arrival:
    """The transfer under way."""

    def __init__(self, sender: int, offer: Offer, receiver: SnapshotReceiver, now_s: float) -> None:
        self.sender = sender
        self.offer = offer
        self.receiver = receiver
        self.progress_s = now_s


class SnapshotIntake:
    """Assembles what a leader offers and hands over the SNAP message when all of it is durable and verified.

    A later term, or another offer of the same leader, takes the place of the one under way. What was received stays in
    its file and is gone on with if the same snapshot is offered again, by whomever. `on_arrived` gets the message that
    the core is to be given.
    """

    def __init__(
        self,
        *,
        folder: SnapshotFolder,
        node_id: int,
        limits: Limits,
        send: FrameSender,
        on_arrived: Callable[[Message], None],
    ) -> None:
        self.term = 0
        """The newest term known; offers of earlier ones are stale."""
        self._folder = folder
        self._node_id = node_id
        self._limits = limits
        self._send = send
        self._on_arrived = on_arrived
        self._arrival: _Arrival | None = None

    def take_frame(self, sender: int, frame: SnapshotFrame, now_s: float) -> None:
        """Take what a sender says; what does not belong to the transfer under way is ignored."""
        if isinstance(frame, Offer):
            outcome = self._take_offer(sender, frame, now_s)
            if outcome is not None:
                self._send(sender, Finished(frame.transfer, outcome))
            return
        arrival = self._arrival
        if arrival is None or (arrival.sender, arrival.offer.transfer) != (sender, frame.transfer):
            return
        if isinstance(frame, Chunk):
            self._take_chunk(arrival, frame, now_s)
        elif isinstance(frame, Restart):
            self._try(arrival, arrival.receiver.restart)
            self._accept(arrival)
        elif isinstance(frame, Abort):
            self._drop()

    def poll(self, now_s: float) -> None:
        """Let go of a transfer that stands still."""
        arrival = self._arrival
        if arrival is not None and now_s - arrival.progress_s >= self._limits.snapshot_timeout_ms / 1000:
            log.warning("node %d stopped sending its snapshot; what has arrived is kept", arrival.sender)
            self._drop()

    def progress(self) -> dict[str, object] | None:
        """What the status document shows."""
        if self._arrival is None:
            return None
        receiver = self._arrival.receiver
        return {
            "from": self._arrival.sender,
            "index": receiver.header.snapshot.index,
            "received_bytes": receiver.received_bytes,
            "bytes": receiver.trailer.file_bytes,
        }

    def close(self) -> None:
        """Give the file back; what has arrived is kept."""
        self._drop()

    def _take_offer(self, sender: int, offer: Offer, now_s: float) -> Outcome | None:
        """Begin, or go on; returns how it ended if it is over already."""
        arrival = self._arrival
        if offer.term < self.term or (arrival is not None and offer.term < arrival.offer.term):
            return Outcome.STALE
        if arrival is not None:
            if (arrival.sender, arrival.offer) == (sender, offer):
                self._accept(arrival)
                return None
            if offer.term == arrival.offer.term and sender != arrival.sender:
                return Outcome.BUSY
            self._drop()
        return self._begin(sender, offer, now_s)

    def _begin(self, sender: int, offer: Offer, now_s: float) -> Outcome | None:
        try:
            header, trailer = self._check(offer)
        except StorageError as error:
            log.error("node %d offers a snapshot that cannot be taken: %s", sender, error)
            return Outcome.MALFORMED
        if trailer.file_bytes > self._limits.snapshot_file_bytes_max:
            log.error(
                "node %d offers a snapshot of %d bytes; snapshot_file_bytes_max is %d",
                sender,
                trailer.file_bytes,
                self._limits.snapshot_file_bytes_max,
            )
            return Outcome.TOO_LARGE
        if self._is_here(header.snapshot):
            self._arrived(sender, offer.term, header.snapshot)
            return Outcome.ARRIVED
        try:
            receiver = SnapshotReceiver(self._folder, header, trailer)
        except OSError as error:
            log.error("a snapshot cannot be received: %s", error)
            return Outcome.DISK
        self._arrival = _Arrival(sender, offer, receiver, now_s)
        self._accept(self._arrival)
        return None

    def _check(self, offer: Offer) -> tuple[SnapshotHeader, SnapshotTrailer]:
        """Header and trailer of the file that is offered. Raises StorageError if there can be no such file."""
        header = decode_header(offer.header_block, file="the offer", cluster_id=self._folder.cluster_id)
        trailer = make_trailer(offer.content_bytes, header.chunk_bytes, offer.sha256)
        conf = header.snapshot.conf_state
        if (trailer.chunks, trailer.file_bytes) != (offer.chunks, offer.file_bytes):
            raise CorruptSnapshotError("its size and its number of chunks do not fit each other")
        if header.chunk_bytes + 4096 > self._limits.peer_frame_bytes_max:
            raise CorruptSnapshotError(f"its chunks of {header.chunk_bytes} bytes exceed peer_frame_bytes_max")
        if header.snapshot.term > offer.term:
            raise CorruptSnapshotError("it is of a later term than its sender")
        if self._node_id not in {*conf.voters, *conf.voters_outgoing, *conf.learners}:
            raise CorruptSnapshotError(f"node {self._node_id} is no member in it")
        return header, trailer

    def _is_here(self, snapshot: Snapshot) -> bool:
        """Whether the file is there already, whole: received before, or taken from the same log."""
        try:
            reader = self._folder.reader(snapshot.term, snapshot.index)
        except (StorageError, OSError):
            return False
        try:
            reader.verify()
        except (StorageError, OSError):
            return False
        finally:
            reader.close()
        return reader.snapshot == snapshot

    def _take_chunk(self, arrival: _Arrival, chunk: Chunk, now_s: float) -> None:
        receiver = arrival.receiver
        if chunk.number != receiver.next:
            return  # A repeated one, or one behind a gap: the next offer tells where to go on.
        if not self._try(arrival, lambda: receiver.put(chunk.number, chunk.record)):
            return
        arrival.progress_s = now_s
        self._send(arrival.sender, Credit(chunk.transfer, receiver.next))
        self._finish(arrival)

    def _accept(self, arrival: _Arrival) -> None:
        if self._arrival is arrival:
            receiver = arrival.receiver
            if (
                receiver.complete
                and receiver.digest != receiver.trailer.sha256
                and not self._try(arrival, receiver.restart)
            ):
                return
            self._send(arrival.sender, Accept(arrival.offer.transfer, receiver.next, receiver.digest))
            self._finish(arrival)

    def _finish(self, arrival: _Arrival) -> None:
        receiver = arrival.receiver
        if receiver.complete and self._try(arrival, receiver.finish):
            self._arrival = None
            self._arrived(arrival.sender, arrival.offer.term, receiver.header.snapshot)
            self._send(arrival.sender, Finished(arrival.offer.transfer, Outcome.ARRIVED))

    def _arrived(self, sender: int, term: int, snapshot: Snapshot) -> None:
        log.info("the snapshot at index %d of node %d has arrived", snapshot.index, sender)
        self._on_arrived(Message(MessageType.SNAP, self._node_id, sender, term, snapshot=snapshot))

    def _try(self, arrival: _Arrival, step: Callable[[], object]) -> bool:
        """Do one step with the file; on failure the transfer is over and its sender is told."""
        try:
            step()
        except (CorruptSnapshotError, OSError) as error:
            log.error("the snapshot of node %d cannot be received: %s", arrival.sender, error)
            outcome = Outcome.DISK if isinstance(error, OSError) else Outcome.MALFORMED
            self._send(arrival.sender, Finished(arrival.offer.transfer, outcome))
            self._drop()
            return False
        return True

    def _drop(self) -> None:
        if self._arrival is not None:
            self._arrival.receiver.close()
            self._arrival = None
