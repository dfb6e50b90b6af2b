"""What nodes, and the parts of one node, tell each other.

One record serves all kinds: a kind uses the fields that its line in `MessageType` names and leaves the others at
zero. The names follow the Raft paper where it has one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from raftactors.core.types import NONE, Entry, Snapshot


class MessageType(IntEnum):
    """The kind of a message. The numbers are the wire format and never change."""

    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23


class Message(NamedTuple):
    """One message.

    `index` and `log_term` name the entry before `entries` (append), the entry that is acknowledged or was rejected
    (append response), the candidate's last entry (votes), or the last stored entry (storage responses).
    `reject_hint` with `log_term` is the largest entry id at which the two logs can still agree.
    `context` is the read request's context, or the reason of a forced election.
    `responses` are released by the storage or application actor when it has done its part.
    """

    type: MessageType
    to: int = NONE
    sender: int = NONE
    term: int = 0
    log_term: int = 0
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    vote: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    responses: tuple[Message, ...] = ()


CAMPAIGN_TRANSFER = b"CampaignTransfer"
"""`context` of a vote request that a leadership transfer forces (thesis section 3.10)."""
