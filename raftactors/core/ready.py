"""The effects that the core asks its surroundings to perform."""

from __future__ import annotations

from typing import NamedTuple

from raftactors.core.messages import Message
from raftactors.core.types import Entry, HardState, ReadState, Snapshot, SoftState


class Ready(NamedTuple):
    """Everything the shell must do, in field order, before the next `RawNode.advance()`.

    Without asynchronous storage writes: persist `hard_state`, `snapshot` and `entries` (one sync when `must_sync`),
    then send `messages`, then apply `committed`, then advance. With them, `messages` holds STORAGE_APPEND and
    STORAGE_APPLY messages that carry the same work and the responses to release; `advance` is not called.
    A field is None or empty when nothing changed.
    """

    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    read_states: tuple[ReadState, ...] = ()
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    committed: tuple[Entry, ...] = ()
    messages: tuple[Message, ...] = ()
    must_sync: bool = False
