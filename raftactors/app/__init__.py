"""What an application author sees: the base class, the marks of its methods, their Context, and the batteries."""

from __future__ import annotations

from raftactors.app.application import Application, command, query
from raftactors.app.context import Context
from raftactors.app.freezing import FreezableApplication
from raftactors.app.kv import KeyValue
from raftactors.app.on_disk import FreezableOnDiskApplication, OnDiskApplication

__all__ = [
    "Application",
    "Context",
    "FreezableApplication",
    "FreezableOnDiskApplication",
    "KeyValue",
    "OnDiskApplication",
    "command",
    "query",
]
