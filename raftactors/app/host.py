"""The replica: committed entries in, replies out. Everything in it follows from the log alone."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import crc32c

from raftactors.app.application import Application
from raftactors.app.context import Context
from raftactors.app.freezing import FreezableApplication
from raftactors.app.invocation import REPLY_OVERHEAD_BYTES, Invoker
from raftactors.app.sessions import Outcome, SessionTable
from raftactors.app.state import ReplicaProgress, StateDecoder, encode_state
from raftactors.codec.batch import Batch, decode_batch
from raftactors.codec.frames import (
    Commands,
    FrameKind,
    decode_close_session,
    decode_commands,
    decode_keep_alive,
    decode_open_session,
    decode_queries,
)
from raftactors.codec.replies import (
    ResultStatus,
    encode_document,
    encode_rejected,
    encode_results,
    results_head_bytes,
)
from raftactors.config import Limits
from raftactors.core.types import Entry, EntryType
from raftactors.errors import ApplicationStateError, EntryUnknownError, InvariantViolation, WireError

_ENTRY = struct.Struct("<QQBBI")

_LATER: Outcome = (ResultStatus.OUT_OF_ORDER, b"")
_SESSION_GONE: list[tuple[int, bytes]] = [(ResultStatus.SESSION_EXPIRED, b"")]


class CommandObserver(Protocol):
    """Somebody who looks on while commands are applied; it must change nothing."""

    def run(self, command: memoryview, execute: Callable[[], Outcome]) -> Outcome:
        """Call `execute` once, for a command that is due, and return what it returns."""
        ...

    def frame(self, frame: Commands, outcomes: Sequence[Outcome]) -> None:
        """A COMMANDS frame was applied; `outcomes` are those of its commands, executed now or not."""
        ...


class FrozenReplica(NamedTuple):
    """A replica as it was behind one entry. `content` is read once, by any one thread."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    term: int
    content: Iterator[bytes]


class ApplicationHost:
    """Runs one application: applies entries in order, keeps its sessions, answers its queries, makes its snapshots.

    `limits.command_bytes_max`, `sessions_max`, `session_ttl_ms` and `session_inflight_max` decide what commands do, so
    they must be the same on every node. `leader_id` is what the replies name as leader; the owner keeps it up to date.
    The owner calls `commit` before it tells anybody what was applied, and `close` at the end; both matter to
    applications that keep their own data (`raftactors.app.on_disk`).
    Raises ApplicationStateError at once for an application whose first state cannot be snapshotted.
    """

    def __init__(
        self, application: Application, *, limits: Limits, node_id: int, observer: CommandObserver | None = None
    ) -> None:
        self.application = application
        self.leader_id = 0
        self._node_id = node_id
        self._observer = observer
        self._reply_bytes_max = limits.client_frame_bytes_max - REPLY_OVERHEAD_BYTES
        self._commands = Invoker(application, "command", limits=limits)
        self._queries = Invoker(application, "query", limits=limits)
        self._sessions = self._make_sessions(limits)
        self._applied_index = 0
        self._applied_term = 0
        self._now_ms = 0
        self._digest = 0
        self._ordinal = 0
        self._begin_state()

    @property
    def applied_index(self) -> int:
        """The index of the last applied entry, 0 before the first."""
        return self._applied_index

    @property
    def is_replaying(self) -> bool:
        """Whether the application holds more of the log than was handed out since the start.

        Until then nobody knows the membership at the applied index, so no snapshot may be taken.
        """
        return False

    @property
    def applied_term(self) -> int:
        """The term of the last applied entry."""
        return self._applied_term

    @property
    def now_ms(self) -> int:
        """Replicated time: the largest time stamp of the applied entries, in milliseconds of the epoch."""
        return self._now_ms

    @property
    def session_count(self) -> int:
        """Sessions in the table."""
        return len(self._sessions)

    @property
    def digest(self) -> int:
        """CRC32C over index, term and payload of every entry so far: equal logs have equal digests."""
        return self._digest

    def state_digest(self) -> str:
        """BLAKE2b of the whole state as hexadecimal text; replicas at the same applied index must agree."""
        return hashlib.blake2b(self.snapshot(), digest_size=16).hexdigest()

    def apply(self, entry: Entry, *, origin_incarnation: int) -> list[tuple[int, bytes]]:
        """Apply the next entry; returns (pending id, reply body) for the frames that this very process took in.

        Raises EntryUnknownError for a payload that this version cannot read, and InvariantViolation for an entry that
        is not the next one. After either the node must stop.
        """
        if entry.index != self._applied_index + 1 or entry.term < self._applied_term:
            raise InvariantViolation(
                f"entry {entry.term}/{entry.index} cannot follow {self._applied_term}/{self._applied_index}"
            )
        replies: list[tuple[int, bytes]] = []
        if entry.data is not None and entry.type is EntryType.NORMAL:
            try:
                batch = decode_batch(entry.data)
            except WireError as error:
                raise EntryUnknownError(_unknown_entry(entry, str(error))) from error
            self._begin(entry, batch.timestamp_ms)
            mine = (batch.origin_node, batch.origin_incarnation) == (self._node_id, origin_incarnation)
            self._apply_frames(entry, batch, replies if mine else None)
        else:
            self._begin(entry, 0)
        return replies

    def commit(self) -> None:
        """Keep what was applied since the last call, where the application keeps its own data; else nothing."""

    def close(self) -> None:
        """Give back what the application holds; what was not committed is as if it had not been applied."""

    def check_log(self, last_index: int, term_of: Callable[[int], int]) -> None:
        """Raise ApplicationStateError if what the application kept cannot come from the log that ends at `last_index`.

        `term_of` gives the term of an entry, or raises LogStorageError where the log does not reach back so far.
        """

    def query(self, index: int, body: bytes | memoryview, *, is_over: Callable[[], bool] = lambda: False) -> bytes:
        """Answer a QUERIES frame (without its request number) that may be read at `index`; returns the reply body.

        The caller waits until `index` is applied; a malformed frame gets REJECTED. The answer ends early, with at least
        one result, when the reply is full or `is_over` says so between two queries: the others are marked as
        OUT_OF_ORDER without being executed, and the client asks for them again.
        """
        if index > self._applied_index:
            raise InvariantViolation(f"query at index {index}, but only {self._applied_index} is applied")
        try:
            frame = decode_queries(body)
        except WireError as error:
            return encode_rejected(self.leader_id, str(error), index=self._applied_index)
        context = partial(Context, index=self._applied_index, now_ms=self._now_ms)
        room_bytes = self._reply_bytes_max - results_head_bytes(len(frame.queries))
        outcomes: list[Outcome] = []
        largest_bytes = 0
        for call in frame.queries:
            # A result as large as the largest so far must fit, or executing the query would most likely be in vain.
            if outcomes and (room_bytes < largest_bytes or is_over()):
                break
            outcome = self._queries.invoke(call, context)
            result_bytes = len(outcome[1])
            room_bytes -= result_bytes
            if room_bytes < 0 and outcomes:
                break
            largest_bytes = max(largest_bytes, result_bytes)
            outcomes.append(outcome)
        outcomes += [_LATER] * (len(frame.queries) - len(outcomes))
        return encode_results(self._applied_index, self.leader_id, 0, outcomes)

    def snapshot(self) -> bytes:
        """The whole replica as one unit. Raises ApplicationStateError if the application's state cannot be encoded."""
        application = self.application
        pieces = application.pieces() if isinstance(application, FreezableApplication) else [application.snapshot()]
        return b"".join(self._encode_state(pieces))

    def freeze(self) -> FrozenReplica:
        """Set the replica as it is aside, to be written down while it goes on; `thaw` must follow.

        Takes no time that grows with the state for a FreezableApplication; any other is encoded here and now. Raises
        ApplicationStateError if its state cannot be encoded; a freezable one raises while `content` is read.
        """
        if isinstance(self.application, FreezableApplication):
            content = self._encode_state(self.application.freeze())
        else:
            content = iter([self.snapshot()])
        return FrozenReplica(self._applied_index, self._applied_term, content)

    def thaw(self) -> None:
        """What `freeze` set aside is not needed any more."""
        if isinstance(self.application, FreezableApplication):
            self.application.thaw()

    def restore(self, snapshot: bytes | memoryview) -> None:
        """Become the replica that made `snapshot`. Raises ApplicationStateError; after that the node must stop."""
        self.restore_from([snapshot])

    def restore_from(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Become the replica whose snapshot, cut anywhere, these are; only one chunk is held at a time.

        Raises ApplicationStateError, or what `chunks` raises; after that the node must stop.
        """
        decoder = StateDecoder(chunks)
        self._sessions.restore(decoder.sessions)
        if isinstance(self.application, FreezableApplication):
            pieces_left = decoder.pieces()
            self.application.restore_pieces(pieces_left)
            # Also when the application stopped early: the end tells whether all of it was what it should be.
            for _ in pieces_left:
                raise ApplicationStateError(f"{type(self.application).__name__} left pieces of its snapshot unread")
        else:
            pieces = list(decoder.pieces())
            if len(pieces) != 1:
                raise ApplicationStateError(
                    f"the snapshot is in {len(pieces)} pieces and {type(self.application).__name__} takes one; "
                    "was it written by a FreezableApplication?"
                )
            self.application.restore(pieces[0])
        self._applied_index, self._applied_term, self._now_ms, self._digest = decoder.progress

    def _encode_state(self, pieces: Iterable[object]) -> Iterator[bytes]:
        progress = ReplicaProgress(self._applied_index, self._applied_term, self._now_ms, self._digest)
        return encode_state(progress, self._sessions.freeze(), pieces, type(self.application).__name__)

    def _make_sessions(self, limits: Limits) -> SessionTable:
        return SessionTable(
            sessions_max=limits.sessions_max,
            session_ttl_ms=limits.session_ttl_ms,
            inflight_max=limits.session_inflight_max,
        )

    def _begin_state(self) -> None:
        # An application that cannot even snapshot its beginning would fail much later, when the log is compacted.
        self.snapshot()

    def _begin(self, entry: Entry, timestamp_ms: int) -> None:
        data = entry.data if entry.data is not None else b""
        header = _ENTRY.pack(entry.index, entry.term, entry.type, entry.data is not None, len(data))
        self._digest = crc32c.crc32c(data, crc32c.crc32c(header, self._digest))
        self._applied_index = entry.index
        self._applied_term = entry.term
        self._ordinal = 0
        if timestamp_ms > self._now_ms:
            self._now_ms = timestamp_ms
            self._sessions.expire(timestamp_ms)

    def _apply_frames(self, entry: Entry, batch: Batch, replies: list[tuple[int, bytes]] | None) -> None:
        for position, (pending_id, kind, body) in enumerate(batch.frames):
            try:
                if kind == FrameKind.COMMANDS:
                    reply = self._apply_commands(body, wanted=replies is not None)
                elif kind == FrameKind.OPEN_SESSION:
                    reply = self._open_session(body, position)
                elif kind == FrameKind.CLOSE_SESSION:
                    self._sessions.close(decode_close_session(body))
                    reply = encode_document(self.leader_id, None, index=entry.index)
                elif kind == FrameKind.KEEP_ALIVE:
                    reply = self._keep_alive(body)
                else:
                    raise EntryUnknownError(_unknown_entry(entry, f"frame kind {kind}"))
            except WireError as error:
                # Every replica refuses it alike, so a frame that a gateway should have refused stops nobody.
                reply = encode_rejected(self.leader_id, str(error), index=entry.index)
            if replies is not None:
                replies.append((pending_id, reply))

    def _apply_commands(self, body: memoryview, *, wanted: bool) -> bytes:
        frame = decode_commands(body)
        session = frame.session

        def context() -> Context:
            return Context(index=self._applied_index, ordinal=self._ordinal, now_ms=self._now_ms, session=session)

        def run(command: memoryview) -> Outcome:
            self._ordinal += 1
            if observer is not None:
                return observer.run(command, lambda: invoke(command, context))
            return invoke(command, context)

        invoke, observer = self._commands.invoke, self._observer
        if session:
            outcomes = self._sessions.execute(frame, self._now_ms, run)
        else:
            outcomes = [run(command) for command in frame.commands]
        if observer is not None:
            observer.frame(frame, outcomes)
        if not wanted:
            return b""
        return self._encode(frame.first_sequence, outcomes)

    def _encode(self, first_sequence: int, outcomes: list[Outcome]) -> bytes:
        body = encode_results(self._applied_index, self.leader_id, first_sequence, outcomes)
        if len(body) <= self._reply_bytes_max:
            return body
        # Results that do not fit one frame come when the client asks again from the first that is missing; by then a
        # command answers with its kept result. One result always fits: it is bounded by command_bytes_max.
        room = self._reply_bytes_max - len(body) + sum(len(content) for _, content in outcomes)
        fitting = 0
        while fitting < len(outcomes) and (room := room - len(outcomes[fitting][1])) >= 0:
            fitting += 1
        cut = outcomes[: max(fitting, 1)] + [_LATER] * (len(outcomes) - max(fitting, 1))
        return encode_results(self._applied_index, self.leader_id, first_sequence, cut)

    def _open_session(self, body: memoryview, position: int) -> bytes:
        decode_open_session(body)
        session = self._applied_index << 16 | position
        self._sessions.open(session, self._now_ms)
        return encode_document(self.leader_id, session, index=self._applied_index)

    def _keep_alive(self, body: memoryview) -> bytes:
        session, acked = decode_keep_alive(body)
        if self._sessions.keep_alive(session, acked, self._now_ms):
            return encode_document(self.leader_id, session, index=self._applied_index)
        return encode_results(self._applied_index, self.leader_id, 0, _SESSION_GONE)


def _unknown_entry(entry: Entry, what: str) -> str:
    return (
        f"entry {entry.term}/{entry.index} cannot be applied: {what}; it was written by a newer version, "
        "so run that version on this node"
    )
