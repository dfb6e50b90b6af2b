"""The actor that owns the sockets between nodes."""

from __future__ import annotations

from raftactors.actors.base import BatchActor
from raftactors.actors.mailbox import Lane, Mailbox
from raftactors.actors.messages import Outbound, PeerMessages, Tick, TransportReport, Unreachable
from raftactors.core.messages import Message
from raftactors.transport import PeerTransport

RECEIVE_FRAMES_MAX = 256
"""Frames taken from the sockets in one turn, so that outbound messages are never kept waiting long."""


class TransportActor(BatchActor):
    """Moves messages between the sockets and consensus. Nothing waits: a full queue drops, and Raft sends again."""

    def __init__(self, mailbox: Mailbox, *, network: PeerTransport, consensus: Mailbox, monitor: Mailbox) -> None:
        super().__init__(mailbox)
        self._network = network
        self._consensus = consensus
        self._monitor = monitor
        self._outbound: list[Message] = []
        self._refused_inbound = 0
        self.handlers = {Outbound: self._on_outbound, Tick: self._on_tick}

    def _on_tick(self, tick: Tick) -> None:
        tick.waiting = False
        self._network.tend()
        drops = {**self._network.drops, "consensus_busy": self._refused_inbound}
        self._monitor.tell(TransportReport(sorted(self._network.connected()), drops), Lane.CONTROL)

    def _on_outbound(self, outbound: Outbound) -> None:
        self._outbound += outbound.messages

    def flush(self) -> None:
        """Send what the batch asked for, then take what has arrived."""
        if self._outbound:
            outbound, self._outbound = self._outbound, []
            unreachable = self._network.send(outbound)
            if unreachable:
                self._consensus.tell(Unreachable(unreachable), Lane.PEERS)
        inbound = self._network.receive(RECEIVE_FRAMES_MAX)
        if inbound and not self._consensus.tell(PeerMessages(inbound), Lane.PEERS):
            self._refused_inbound += len(inbound)

    def shut_down(self) -> None:
        """Send what still waits, then close the sockets."""
        self.flush()
        self._network.close()
