"""The data folder of a node: identity, write-ahead log, recovery, and the disk below them."""

from __future__ import annotations

from raftactors.config import Durability
from raftactors.storage.files import FileSystem, RealFiles
from raftactors.storage.identity import Identity
from raftactors.storage.memory import MemoryFiles, PowerCut, SimulatedExit
from raftactors.storage.opening import OpenedStorage, open_data_dir
from raftactors.storage.record import WalBatch
from raftactors.storage.recovery import RecoveryReport, Verdict
from raftactors.storage.wal import Wal, WalStats

__all__ = [
    "Durability",
    "FileSystem",
    "Identity",
    "MemoryFiles",
    "OpenedStorage",
    "PowerCut",
    "RealFiles",
    "RecoveryReport",
    "SimulatedExit",
    "Verdict",
    "Wal",
    "WalBatch",
    "WalStats",
    "open_data_dir",
]
