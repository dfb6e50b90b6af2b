"""A view of one node for people and monitors."""

from __future__ import annotations

from typing import NamedTuple

from raftactors.core.progress import Progress
from raftactors.core.raft import Raft
from raftactors.core.types import ConfState, HardState, Role, SoftState


class BasicStatus(NamedTuple):
    """What is cheap to tell. `transferee_id`: target of the leadership transfer under way, NONE if there is none."""

    node_id: int
    hard_state: HardState
    soft_state: SoftState
    applied: int
    transferee_id: int


class Status(NamedTuple):
    """Everything: also the membership, and, on a leader, a copy of the progress of every member in id order."""

    basic: BasicStatus
    conf_state: ConfState
    progress: dict[int, Progress]


def basic_status(raft: Raft) -> BasicStatus:
    """The cheap view."""
    return BasicStatus(raft.node_id, raft.hard_state(), raft.soft_state(), raft.log.applied, raft.transferee_id)


def full_status(raft: Raft) -> Status:
    """The whole view; a later change of the node does not show in it."""
    progress = {}
    if raft.role is Role.LEADER:
        progress = {node_id: known.copy() for node_id, known in raft.tracker.progress.items()}
    return Status(basic_status(raft), raft.tracker.conf_state(), progress)
