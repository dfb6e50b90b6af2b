"""The one table of what a configuration file may hold: every key with its section, type, default and meaning.

Types and defaults are those of `NodeConfig`, `RaftTiming` and `Limits`; what a value may be is checked there.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from typing import Any, NamedTuple

from raftactors.config import Limits, Member, NodeConfig, RaftTiming

ENVIRONMENT_PREFIX = "RAFTACTORS_NODE_"
"""The environment variable of a key is its name in capitals after this."""

MEMBERS = "members"

_COMMENTS: dict[str, str] = {
    # The node itself.
    "node_id": "This node's number; it must be one of the members below.",
    "cluster_id": "The cluster's number, the same on all nodes. Data of another cluster is refused.",
    "data_dir": "Where the node keeps its log and snapshots. Relative paths begin at this file's folder.",
    "application": "What is replicated: MODULE:CLASS or FILE.py:CLASS, the same on all nodes.",
    "import_paths": "Folders that are searched first for the application.",
    "listen_peer_address": "Where to listen for other nodes, if not at the member's own address.",
    "listen_client_address": "The same for clients.",
    "listen_snapshot_address": "The same for snapshots.",
    "durability": "fsync: a write is acknowledged when a majority has it on disk. interval:50 or none risk losing it.",
    "log_level": "DEBUG, INFO, WARNING or ERROR; the log goes to standard error.",
    "drain_ms": "How long a node that is told to stop hands over and answers what is under way.",
    "ask_members_ms": "How long a start waits for what other members say of this configuration. 0: it never asks.",
    "witness_path": "A file outside of data_dir, on another disk at best, that tells an old copy of the data.",
    "incarnation_min": "Refuse a data folder that was opened less often: 1 refuses an empty one.",
    "pre_vote": "Ask whether an election can be won before it is begun.",
    "check_quorum": "A leader that does not hear of a majority steps down.",
    "switch_interval_us": "How long a thread may compute while others wait.",
    "watchdog_ms": "A node whose actor works this long on one batch ends itself.",
    "application_watchdog_ms": "The same for the application and for snapshots.",
    # [timing]
    "tick_ms": "Length of a tick, the unit of Raft's clock.",
    "heartbeat_ticks": "Ticks between two heartbeats of a leader.",
    "election_ticks": "Ticks without a leader before an election; at least 5 heartbeats.",
    # [limits]
    "command_bytes_max": "Largest command or query.",
    "client_frame_bytes_max": "Largest frame from or to a client.",
    "peer_frame_bytes_max": "Largest frame between nodes.",
    "peer_queue_messages": "Frames that wait for one node.",
    "client_queue_messages": "Frames that wait for one client.",
    "peer_connections_max": "Connections at the port for nodes.",
    "client_connections_max": "Connections at the port for clients.",
    "peer_backlog_bytes_max": "Frames of one connection of a node that wait to be taken.",
    "client_backlog_bytes_max": "The same for a connection of a client.",
    "proposal_bytes_max": "Commands that go into one log entry.",
    "append_bytes_max": "Log entries in one message to a follower.",
    "inflight_messages_max": "Messages under way to one follower.",
    "inflight_bytes_max": "Bytes under way to one follower.",
    "uncommitted_bytes_max": "Log that the leader holds and that is not committed yet.",
    "committed_bytes_per_ready_max": "Committed log that is applied in one piece.",
    "mailbox_messages_max": "Messages that wait for one actor.",
    "pending_frames_max": "Client frames that a node has not answered yet.",
    "pending_bytes_max": "The same in bytes.",
    "client_pending_frames_max": "Frames of one connection that a node has not answered yet.",
    "client_pending_bytes_max": "The same in bytes.",
    "unread_bytes_max": "Replies that clients have not read yet.",
    "client_unread_bytes_max": "Replies that one connection has not read yet.",
    "client_stall_ms": "A client that has much to read and reads nothing for so long is cut off.",
    "query_slice_ms": "How long queries are answered before others have their turn.",
    "session_inflight_max": "Commands of one session under way; the same on all nodes.",
    "sessions_max": "Sessions of all clients; the same on all nodes.",
    "session_ttl_ms": "A session that is silent for so long ends; the same on all nodes.",
    "segment_bytes": "Size of a file of the log.",
    "snapshot_bytes": "A snapshot is taken after so much new log.",
    "snapshot_entries": "A snapshot is taken after so many new entries.",
    "trailing_entries": "Entries kept from before a snapshot for members that lag.",
    "trailing_bytes": "The same in bytes; the lower limit counts.",
    "snapshot_chunk_bytes": "Size of the pieces in which a snapshot is sent.",
    "snapshot_window_chunks": "Pieces under way to one member.",
    "snapshot_transfers_max": "Members that are sent a snapshot at a time.",
    "snapshot_bytes_per_second": "Speed of all transfers together.",
    "snapshot_file_bytes_max": "Largest snapshot.",
    "snapshot_timeout_ms": "A transfer without progress for so long is given up.",
    "scrub_interval_ms": "How often what lies on the disk is read again and verified.",
    "scrub_bytes_per_second": "Speed of that.",
}

_NOT_IN_FILES = frozenset({"parent_fd", "ready_fd", "log_bytes_max"})
"""They mean something only to a node that is the child of a supervisor, which writes no such file."""

SECTIONS: dict[str, type[Any]] = {"": NodeConfig, "timing": RaftTiming, "limits": Limits}
"""The tables of the file, and what is made of them; the first one has no name."""


class Key(NamedTuple):
    """One key of the file. `default` is None where there is none: the file has to tell."""

    name: str
    section: str
    kind: object
    default: object
    comment: str


def _find_keys() -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for section, kind in SECTIONS.items():
        types = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.name in {MEMBERS, *SECTIONS, *_NOT_IN_FILES}:
                continue
            default = None if field.default is dataclasses.MISSING else field.default
            keys[field.name] = Key(field.name, section, types[field.name], default, _COMMENTS.get(field.name, ""))
    order = list(_COMMENTS)
    return dict(sorted(keys.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


KEYS: dict[str, Key] = _find_keys()
"""Every key but `members`, by its name, which no two sections share, in the order of the file."""

MEMBER_KEYS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Member))


def variable_of(name: str) -> str:
    """The environment variable that sets a key."""
    return ENVIRONMENT_PREFIX + name.upper()


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """The nearest of the names that are known, as the end of a message; otherwise all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
