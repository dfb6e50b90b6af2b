"""The replica: committed entries in, replies out. Everything in it follows from the log alone."""

from __future__ import annotations

import hashlib
import struct
from functools import partial

import crc32c

from raftactors.app.application import Application
from raftactors.app.context import Context
from raftactors.app.invocation import Invoker
from raftactors.app.sessions import Outcome, SessionTable
from raftactors.app.state import ReplicaState, decode_state, encode_state
from raftactors.codec.batch import Batch, decode_batch
from raftactors.codec.frames import (
    FrameKind,
    decode_close_session,
    decode_commands,
    decode_keep_alive,
    decode_open_session,
    decode_queries,
)
from raftactors.codec.replies import ResultStatus, encode_document, encode_rejected, encode_results
from raftactors.config import Limits
from raftactors.core.types import Entry, EntryType
from raftactors.errors import EntryUnknownError, InvariantViolation, WireError

_ENTRY = struct.Struct("<QQBBI")
REPLY_OVERHEAD_BYTES = 1024
"""What is kept free for the frame around one reply."""

_LATER: Outcome = (ResultStatus.OUT_OF_ORDER, b"")
_SESSION_GONE: list[tuple[int, bytes]] = [(ResultStatus.SESSION_EXPIRED, b"")]


class ApplicationHost:
    """Runs one application: applies entries in order, keeps its sessions, answers its queries, makes its snapshots.

    `limits.command_bytes_max`, `sessions_max`, `session_ttl_ms` and `session_inflight_max` decide what commands do, so
    they must be the same on every node. `leader_id` is what the replies name as leader; the owner keeps it up to date.
    Raises ApplicationStateError at once for an application whose first state cannot be snapshotted.
    """

    def __init__(self, application: Application, *, limits: Limits, node_id: int) -> None:
        self.application = application
        self.leader_id = 0
        self._node_id = node_id
        self._reply_bytes_max = limits.client_frame_bytes_max - REPLY_OVERHEAD_BYTES
        self._commands = Invoker(application, "command", call_bytes_max=limits.command_bytes_max)
        self._queries = Invoker(application, "query", call_bytes_max=limits.command_bytes_max)
        self._sessions = SessionTable(
            sessions_max=limits.sessions_max,
            session_ttl_ms=limits.session_ttl_ms,
            inflight_max=limits.session_inflight_max,
        )
        self._applied_index = 0
        self._applied_term = 0
        self._now_ms = 0
        self._digest = 0
        self._ordinal = 0
        # An application that cannot even snapshot its beginning would fail much later, when the log is compacted.
        self.snapshot()

    @property
    def applied_index(self) -> int:
        """The index of the last applied entry, 0 before the first."""
        return self._applied_index

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

    def query(self, index: int, body: bytes | memoryview) -> bytes:
        """Answer a QUERIES frame (without its request number) that may be read at `index`; returns the reply body.

        The caller waits until `index` is applied; a malformed frame gets REJECTED.
        """
        if index > self._applied_index:
            raise InvariantViolation(f"query at index {index}, but only {self._applied_index} is applied")
        try:
            frame = decode_queries(body)
        except WireError as error:
            return encode_rejected(self.leader_id, str(error), index=self._applied_index)
        context = partial(Context, index=self._applied_index, now_ms=self._now_ms)
        outcomes = [self._queries.invoke(call, context) for call in frame.queries]
        return self._encode(0, outcomes)

    def snapshot(self) -> bytes:
        """The whole replica as one unit. Raises ApplicationStateError if the application's state cannot be encoded."""
        state = ReplicaState(
            applied_index=self._applied_index,
            applied_term=self._applied_term,
            now_ms=self._now_ms,
            digest=self._digest,
            sessions=self._sessions.snapshot(),
            application=self.application.snapshot(),
        )
        return encode_state(state, type(self.application).__name__)

    def restore(self, snapshot: bytes | memoryview) -> None:
        """Become the replica that made `snapshot`. Raises ApplicationStateError; after that the node must stop."""
        state = decode_state(snapshot)
        self._sessions.restore(state.sessions)
        self.application.restore(state.application)
        self._applied_index = state.applied_index
        self._applied_term = state.applied_term
        self._now_ms = state.now_ms
        self._digest = state.digest

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
            return invoke(command, context)

        invoke = self._commands.invoke
        if session:
            outcomes = self._sessions.execute(frame, self._now_ms, run)
        else:
            outcomes = [run(command) for command in frame.commands]
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
