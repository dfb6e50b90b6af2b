"""Client frames on their way into the log, and queries on their way to a read index."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from raftactors.actors.messages import ClientFrame
from raftactors.codec.batch import encode_batch

_CONTEXT = struct.Struct("<QQQ")


def combine(
    frames: Iterable[ClientFrame], *, bytes_max: int, origin_node: int, origin_incarnation: int, now_ms: int
) -> list[tuple[bytes, list[int]]]:
    """Join frames into as few entry payloads as fit, in order; with each come the pending ids that it carries.

    A payload holds at most `bytes_max` bytes of frames, and at least one frame.
    """
    payloads: list[tuple[bytes, list[int]]] = []
    batch: list[tuple[int, bytes]] = []
    size = 0

    def close() -> None:
        if batch:
            payload = encode_batch(
                batch, origin_node=origin_node, origin_incarnation=origin_incarnation, timestamp_ms=now_ms
            )
            payloads.append((payload, [pending_id for pending_id, _ in batch]))

    for frame in frames:
        if batch and size + len(frame.payload) > bytes_max:
            close()
            batch, size = [], 0
        batch.append((frame.pending_id, frame.payload))
        size += len(frame.payload)
    close()
    return payloads


class PendingReads:
    """Query frames by the context of the read round that they share (thesis section 6.4)."""

    def __init__(self, node_id: int, incarnation: int) -> None:
        self._node_id = node_id
        self._incarnation = incarnation
        self._rounds = 0
        self._waiting: dict[bytes, tuple[int, list[ClientFrame]]] = {}

    def begin(self, frames: list[ClientFrame], tick: int) -> bytes:
        """Register a round and return its context, unique over all nodes and restarts."""
        self._rounds += 1
        context = _CONTEXT.pack(self._node_id, self._incarnation, self._rounds)
        self._waiting[context] = (tick, frames)
        return context

    def confirm(self, context: bytes) -> list[ClientFrame]:
        """The frames whose read index is now known; none for a round that was given up before."""
        return self._waiting.pop(context, (0, []))[1]

    def give_up(self, before_tick: int) -> list[int]:
        """Forget the rounds begun before `before_tick`; returns the pending ids of their frames."""
        lost = [context for context, (tick, _) in self._waiting.items() if tick < before_tick]
        return [frame.pending_id for context in lost for frame in self._waiting.pop(context)[1]]
