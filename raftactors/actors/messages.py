"""What the actors of one node tell each other. Everything here is immutable, or handed over for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from raftactors.core.messages import Message


class Tick:
    """One tick of the logical clock. There is one instance: `waiting` keeps a second one from queueing behind it."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting = False


class PeerMessages(NamedTuple):
    """Raft messages that came from other nodes, checked by the transport's gate."""

    messages: list[Message]


class Outbound(NamedTuple):
    """Raft messages for other nodes."""

    messages: list[Message]


class Unreachable(NamedTuple):
    """Messages to these peers could not be handed to the network."""

    node_ids: list[int]


class AppendWork(NamedTuple):
    """A STORAGE_APPEND message: what to make durable, and the responses that wait for it."""

    message: Message


class AppendsDone(NamedTuple):
    """These STORAGE_APPEND messages are durable, in this order."""

    messages: list[Message]


class ApplyWork(NamedTuple):
    """A STORAGE_APPLY message: committed entries for the state machine."""

    message: Message


class AppliesDone(NamedTuple):
    """These STORAGE_APPLY messages were applied, in this order."""

    messages: list[Message]


class ClientFrame(NamedTuple):
    """A client's frame under the gateway's own number: one kind byte followed by the body without its request."""

    pending_id: int
    payload: bytes


class Proposals(NamedTuple):
    """Frames whose commands are to go through the log."""

    frames: list[ClientFrame]


class Reads(NamedTuple):
    """Frames of linearizable queries that wait for a read index."""

    frames: list[ClientFrame]


class ReadsReady(NamedTuple):
    """Queries that may be answered once `read_index` is applied."""

    read_index: int
    frames: list[ClientFrame]


class AdminRequest(NamedTuple):
    """An operation on the node itself."""

    pending_id: int
    operation: str
    arguments: tuple[Any, ...]


class Replies(NamedTuple):
    """Reply bodies for the gateway's pending frames."""

    replies: list[tuple[int, bytes]]


class Refused(NamedTuple):
    """These pending frames were not taken; they may be sent again, at once or (`busy`) after a while."""

    pending_ids: list[int]
    busy: bool = False


class LeaderChanged(NamedTuple):
    """This node now knows this leader (0: none) in this term."""

    leader_id: int
    term: int


class Applied(NamedTuple):
    """What the application publishes of itself for the status document."""

    applied_index: int
    digest: str


class RaftReport(NamedTuple):
    """What consensus publishes of itself for the status document."""

    role: str
    term: int
    leader_id: int
    commit_index: int
    last_index: int


class TransportReport(NamedTuple):
    """What the transport publishes of itself for the status document."""

    connected: list[int]
    drops: dict[str, int]


class Drain(NamedTuple):
    """Hand leadership over and take no new work; call `done` (from any thread) when nothing is left to wait for."""

    done: Callable[[], None]
