"""Sockets between nodes, and between nodes and clients: framing, checks, limits; no rule of Raft."""

from __future__ import annotations

from raftactors.transport.client_endpoint import ClientEndpoint, ClientSocket
from raftactors.transport.memory import MemoryNetwork, MemoryTransport
from raftactors.transport.network import PeerNetwork, PeerTransport
from raftactors.transport.snapshot_network import SnapshotNetwork, SnapshotTransport
from raftactors.transport.wakeup import Wakeup

__all__ = [
    "ClientEndpoint",
    "ClientSocket",
    "MemoryNetwork",
    "MemoryTransport",
    "PeerNetwork",
    "PeerTransport",
    "SnapshotNetwork",
    "SnapshotTransport",
    "Wakeup",
]
