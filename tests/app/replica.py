"""Entries made by hand for a host, and its replies read back."""

from __future__ import annotations

from typing import Any

from raftactors.app.application import Application
from raftactors.app.host import ApplicationHost
from raftactors.codec import frames
from raftactors.codec.batch import encode_batch
from raftactors.codec.frames import FrameKind, Level
from raftactors.codec.msgpack import unpack
from raftactors.codec.replies import DocumentReply, Reply, ResultsReply, ResultStatus, decode_reply
from raftactors.config import Limits
from raftactors.core.types import Entry

NODE_ID = 1
INCARNATION = 4


def open_frame() -> bytes:
    """An OPEN_SESSION as it stands in a batch."""
    return bytes([FrameKind.OPEN_SESSION]) + frames.encode_open_session(0)[8:]


def close_frame(session: int) -> bytes:
    """A CLOSE_SESSION as it stands in a batch."""
    return bytes([FrameKind.CLOSE_SESSION]) + frames.encode_close_session(0, session)[8:]


def keep_alive_frame(session: int, acked: int = 0) -> bytes:
    """A KEEP_ALIVE as it stands in a batch."""
    return bytes([FrameKind.KEEP_ALIVE]) + frames.encode_keep_alive(0, session=session, acked=acked)[8:]


def commands_frame(session: int, first_sequence: int, *calls: tuple[Any, ...], acked: int = 0) -> bytes:
    """A COMMANDS frame as it stands in a batch; each call is (method, *arguments)."""
    commands = [frames.encode_call(call[0], call[1:]) for call in calls]
    body = frames.encode_commands(0, session=session, first_sequence=first_sequence, acked=acked, commands=commands)
    return bytes([FrameKind.COMMANDS]) + body[8:]


class Replica:
    """One host and the tail of its log."""

    def __init__(
        self,
        application: Application,
        *,
        limits: Limits | None = None,
        node_id: int = NODE_ID,
        host: ApplicationHost | None = None,
    ) -> None:
        self.node_id = node_id
        self.host = host or ApplicationHost(application, limits=limits or Limits(), node_id=node_id)
        self.entries: list[Entry] = []

    def commit(self, *batch: bytes, now_ms: int = 1_000) -> list[Reply]:
        """Apply one entry with these frames that came in here; returns the replies in order."""
        payload = encode_batch(
            list(enumerate(batch)), origin_node=self.node_id, origin_incarnation=INCARNATION, timestamp_ms=now_ms
        )
        return self.apply(Entry(1, self.host.applied_index + 1, payload))

    def apply(self, entry: Entry) -> list[Reply]:
        """Apply an entry; returns its replies in the order of the frames."""
        self.entries.append(entry)
        replies = self.host.apply(entry, origin_incarnation=INCARNATION)
        assert [pending_id for pending_id, _ in replies] == list(range(len(replies)))
        return [decode_reply(body) for _, body in replies]

    def open(self, now_ms: int = 1_000) -> int:
        """Open a session through the log; returns its id."""
        (reply,) = self.commit(open_frame(), now_ms=now_ms)
        assert isinstance(reply, DocumentReply)
        assert isinstance(reply.document, int)
        return reply.document

    def run(self, session: int, first_sequence: int, *calls: tuple[Any, ...], acked: int = 0) -> list[tuple[int, Any]]:
        """Commit one COMMANDS frame; returns (status, decoded content) of each command."""
        (reply,) = self.commit(commands_frame(session, first_sequence, *calls, acked=acked))
        return outcomes(reply)

    def ask(self, *calls: tuple[Any, ...]) -> list[tuple[int, Any]]:
        """Run one QUERIES frame; returns (status, decoded content) of each query."""
        queries = [frames.encode_call(call[0], call[1:]) for call in calls]
        body = frames.encode_queries(0, level=Level.LINEARIZABLE, queries=queries)[8:]
        return outcomes(decode_reply(self.host.query(self.host.applied_index, body)))


def outcomes(reply: Reply) -> list[tuple[int, Any]]:
    """(status, decoded content) of each result."""
    assert isinstance(reply, ResultsReply)
    return [
        (
            status,
            unpack(content, bytes_max=2**20)
            if status in {ResultStatus.OK, ResultStatus.APPLICATION_ERROR}
            else str(content, "utf-8"),
        )
        for status, content in reply.results
    ]
