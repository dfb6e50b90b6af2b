"""Replicated actors for Python: a state machine on N processes, ordered by Raft, durable before it answers.

The names of this module are the public interface; everything below is reached by its own module and may move.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raftactors.app import (
    Application,
    Context,
    FreezableApplication,
    FreezableOnDiskApplication,
    KeyValue,
    OnDiskApplication,
    command,
    query,
)
from raftactors.config import Limits, RaftTiming
from raftactors.errors import RaftActorsError, RequestError

if TYPE_CHECKING:
    from raftactors.client import Client, Reply
    from raftactors.cluster import LocalCluster

__version__ = "0.1.0"

__all__ = [
    "Application",
    "Client",
    "Context",
    "FreezableApplication",
    "FreezableOnDiskApplication",
    "KeyValue",
    "Limits",
    "LocalCluster",
    "OnDiskApplication",
    "RaftActorsError",
    "RaftTiming",
    "Reply",
    "RequestError",
    "command",
    "query",
]

_LAZY = {"Client": "raftactors.client", "LocalCluster": "raftactors.cluster", "Reply": "raftactors.client"}


def __getattr__(name: str) -> Any:
    # A node process imports this package for the user's application; what only callers need is loaded when asked for.
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)
