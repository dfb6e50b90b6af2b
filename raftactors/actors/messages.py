"""What the actors of one node tell each other. Everything here is immutable, or handed over for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Any, NamedTuple

from raftactors.app.host import FrozenReplica
from raftactors.core.messages import Message
from raftactors.core.types import Snapshot


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


class DiskSpace(NamedTuple):
    """The log has no room for its next segment, or has it again."""

    is_full: bool


class ApplyWork(NamedTuple):
    """A STORAGE_APPLY message: committed entries for the state machine."""

    message: Message


class AppliesDone(NamedTuple):
    """These STORAGE_APPLY messages were applied, in this order."""

    messages: list[Message]


class ClientFrame(NamedTuple):
    """A client's frame under the gateway's own number: one kind byte followed by the body without its request.

    `connection` is the routing id of the connection that it came by.
    """

    pending_id: int
    payload: bytes
    connection: bytes = b""


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
    """Reply bodies for the gateway's pending frames; it reports `counted_bytes` of them as taken (`AnswersFlow`)."""

    replies: list[tuple[int, bytes]]
    counted_bytes: int = 0


class AnswersFlow(NamedTuple):
    """What the gateway says of the application's replies: so many bytes were taken since the last word.

    Queries of the connections `held` wait until they are `released`; those of connections `gone` are forgotten.
    """

    taken_bytes: int
    held: Set[bytes] = frozenset()
    released: Set[bytes] = frozenset()
    gone: Set[bytes] = frozenset()


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
    """What consensus publishes of itself for the status document.

    `leader_silence_ticks_max`: the most ticks that passed without a message of the present leader; 0 on the leader.
    """

    role: str
    term: int
    leader_id: int
    commit_index: int
    last_index: int
    disk: str = "ok"
    first_index: int = 1
    leader_silence_ticks_max: int = 0


class TransportReport(NamedTuple):
    """What the transport publishes of itself for the status document."""

    connected: list[int]
    drops: dict[str, int]


class ScrubReport(NamedTuple):
    """How far the present pass over the files on the disk has come, after so many whole ones; all damage found."""

    passes: int = 0
    bytes: int = 0
    damage: tuple[str, ...] = ()


class GuardReport(NamedTuple):
    """How many connections each listener has, and how many were ended, by listener and reason."""

    open: dict[str, int]
    cut: dict[str, dict[str, int]]


class Drain(NamedTuple):
    """Hand leadership over and take no new work; call `done` (from any thread) when nothing is left to wait for."""

    done: Callable[[], None]


# --- snapshots ------------------------------------------------------------------------------------------------------


class TakeSnapshot(NamedTuple):
    """Take a snapshot now, although none is due."""


class SnapshotFrozen(NamedTuple):
    """The replica as it is behind everything that was reported as applied so far."""

    replica: FrozenReplica


class SaveSnapshot(NamedTuple):
    """Write this content down as this snapshot."""

    snapshot: Snapshot
    content: Iterator[bytes]


class SnapshotRead(NamedTuple):
    """The frozen replica has been read to its end, or will not be read any further."""


class SnapshotSaved(NamedTuple):
    """The file of this snapshot is durable; the log does not speak of it yet."""

    snapshot: Snapshot


class SnapshotRecorded(NamedTuple):
    """The log vouches for `snapshot`, taken here, or for a received one (None).

    The segments `released` and the snapshots before `older_index` may go.
    """

    snapshot: Snapshot | None
    released: list[str]
    older_index: int


class SnapshotTaken(NamedTuple):
    """A snapshot of this node counts: what it covers need not stay in memory."""

    snapshot: Snapshot


class SnapshotEnded(NamedTuple):
    """The snapshot at `index` counts, or, with an `error`, did not come about."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    term: int = 0
    bytes: int = 0
    error: str = ""


class RestoreWork(NamedTuple):
    """The log begins anew behind this received snapshot: become what it holds."""

    snapshot: Snapshot


class Restored(NamedTuple):
    """The application is what this snapshot holds."""

    snapshot: Snapshot


class SendSnapshot(NamedTuple):
    """Bring the snapshot of this SNAP message to the member that it names."""

    message: Message


class SnapshotReports(NamedTuple):
    """Members, and whether the snapshot for them arrived."""

    reports: list[tuple[int, bool]]


class SnapshotArrived(NamedTuple):
    """The file that belongs to this SNAP message is here, whole and durable."""

    message: Message


class TransferReport(NamedTuple):
    """What the snapshot socket publishes of itself for the status document."""

    sending: list[dict[str, object]]
    receiving: dict[str, object] | None
    drops: dict[str, int]
