"""Linearizable reads that wait until a quorum has confirmed the leader (thesis section 6.4)."""

from __future__ import annotations

from typing import NamedTuple

from raftactors.core.messages import Message


class PendingRead(NamedTuple):
    """One read request, the commit index when it arrived, and who has confirmed the leader since."""

    request: Message
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    acks: dict[int, bool]


def read_context(request: Message) -> bytes:
    """The context of a READ_INDEX message, which travels as the payload of its only entry."""
    return request.entries[0].data or b""


class ReadOnlyQueue:
    """Reads in the order of their arrival; a confirmed read confirms all before it."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: dict[bytes, PendingRead] = {}

    def pending(self) -> list[tuple[bytes, int]]:
        """Context and commit index of every waiting read, oldest first."""
        return [(context, read.index) for context, read in self._pending.items()]

    def add(self, request: Message, committed: int) -> None:
        """Let a read wait. A context that waits already is not queued again."""
        context = read_context(request)
        if context not in self._pending:
            self._pending[context] = PendingRead(request, committed, {})

    def acknowledge(self, context: bytes, node_id: int) -> dict[int, bool] | None:
        """Note that `node_id` confirmed the leader for this read; returns all confirmations, None if none waits."""
        read = self._pending.get(context)
        if read is None:
            return None
        read.acks[node_id] = True
        return read.acks

    def release_through(self, context: bytes) -> list[PendingRead]:
        """Take the read with this context, which must wait, and all older ones out of the queue, oldest first."""
        released: list[PendingRead] = []
        pending = self._pending
        while context in pending:
            released.append(pending.pop(next(iter(pending))))
        return released

    def last_context(self) -> bytes:
        """Context of the youngest waiting read, empty if none waits; heartbeats carry it."""
        return next(reversed(self._pending), b"")
