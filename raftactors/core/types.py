"""The plain values of Raft: entries, durable and volatile state, membership, snapshots.

All are immutable tuples with names, so they can be shared between actors without a copy. Node ids, terms and
indexes are integers in [0, 2**64); id 0 (`NONE`) means "no node", index 0 means "before the first entry".
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple

NONE = 0
"""The id of no node."""

APPEND_THREAD = 2**64 - 1
"""Pseudo id of the local log writer: the target of `MessageType.STORAGE_APPEND`."""

APPLY_THREAD = 2**64 - 2
"""Pseudo id of the local state machine: the target of `MessageType.STORAGE_APPLY`."""

UNLIMITED = 2**64 - 1
"""Stands for "no limit" where a size or count is asked for."""


class Role(Enum):
    """What a node is at the moment (thesis section 3.3; pre-candidate: section 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class EntryType(IntEnum):
    """What an entry's payload is."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class Entry(NamedTuple):
    """One log record. `data` is opaque to Raft; None is an absent payload, which b"" is not."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    data: bytes | None = None
    type: EntryType = EntryType.NORMAL


class HardState(NamedTuple):
    """What must be durable before anyone hears of it (Raft paper Figure 2, "persistent state")."""

    term: int = 0
    vote: int = NONE
    commit: int = 0


EMPTY_HARD_STATE = HardState()


class SoftState(NamedTuple):
    """Volatile state that the shell may want to watch."""

    leader_id: int
    role: Role


class ConfState(NamedTuple):
    """The membership, sorted ascending. `voters_outgoing` is filled exactly while the configuration is joint."""

    voters: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    def __str__(self) -> str:
        """`voters=(1 2 3) learners=(4)`; the outgoing half, future learners and automatic leaving only while joint."""
        text = f"voters={_listed(self.voters)}"
        if self.voters_outgoing:
            text += f"&&{_listed(self.voters_outgoing)}"
        if self.learners:
            text += f" learners={_listed(self.learners)}"
        if self.learners_next:
            text += f" learners_next={_listed(self.learners_next)}"
        return text + " auto_leave" if self.auto_leave else text


def _listed(node_ids: tuple[int, ...]) -> str:
    return f"({' '.join(map(str, node_ids))})"


class Snapshot(NamedTuple):
    """Everything up to `index`, in the application's own form."""

    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    term: int = 0
    conf_state: ConfState = ConfState()
    data: bytes = b""


class ReadState(NamedTuple):
    """The read with this `context` may be answered once the applied index has reached `index` (thesis 6.4)."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    context: bytes


class ConfChangeType(IntEnum):
    """What a membership change does with its node."""

    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER = 3


class ConfChangeTransition(IntEnum):
    """How a joint configuration is entered and left."""

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


class ConfChangeSingle(NamedTuple):
    """One step of a membership change. Node id 0 means "skip this step"."""

    type: ConfChangeType
    node_id: int


class ConfChange(NamedTuple):
    """A membership change of one node, the older form (thesis section 4.1)."""

    type: ConfChangeType
    node_id: int
    context: bytes = b""
    id: int = 0


class ConfChangeV2(NamedTuple):
    """A membership change of any number of nodes; none at all means "leave the joint configuration"."""

    changes: tuple[ConfChangeSingle, ...] = ()
    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    context: bytes = b""
