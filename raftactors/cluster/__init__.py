"""Clusters on this machine: node processes, their supervision, and the doors through which others reach them."""

from __future__ import annotations

from raftactors.cluster.local import LocalCluster
from raftactors.cluster.process import NodeProcess, NodeStartError, Usage
from raftactors.cluster.supervisor import BackOff, NodeState, Supervisor

__all__ = ["BackOff", "LocalCluster", "NodeProcess", "NodeStartError", "NodeState", "Supervisor", "Usage"]
