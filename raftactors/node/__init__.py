"""One node process: its composition root, what it shares with the one that started it, and its entry."""

from __future__ import annotations

from raftactors.node.composition import Node
from raftactors.node.serving import Announce, main, run, serve

__all__ = ["Announce", "Node", "main", "run", "serve"]
