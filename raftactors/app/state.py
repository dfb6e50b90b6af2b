"""The snapshot of a replica as a stream of msgpack values, for the application's state and everything around it.

    magic | [applied index, applied term, replicated time, digest, sessions] | a session each | [piece] each | []

Unlike messages, a snapshot was made by a node, its size is the application's own, and its maps may have any scalar
keys; so it has an encoding with other limits than `raftactors.codec.msgpack`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import msgpack  # type: ignore[import-untyped]  # it ships no type information

from raftactors.app.sessions import FrozenSession
from raftactors.errors import ApplicationStateError

STATE_VERSION = 2
"""Version of everything in the stream, the session table included."""

PIECE_BYTES_MAX = 2**31 - 1
"""How large one value may be once it is encoded."""

_MAGIC = b"RAFA" + bytes((STATE_VERSION,))
_INDEX_MAX = 2**64
_DIGEST_MAX = 2**32
_FIELDS = 5
_NIL = b"\xc0"


class ReplicaProgress(NamedTuple):
    """How far a replica has come, beside its sessions and its application."""

    applied_index: int
    applied_term: int
    now_ms: int
    digest: int


def encode_state(
    progress: ReplicaProgress, sessions: list[FrozenSession], pieces: Iterable[object], owner: str
) -> Iterator[bytes]:
    """Encode a snapshot, one value at a time; `owner` names the application in the text of ApplicationStateError.

    The types are taken exactly: a tuple, a set or a subclass would come back as another type and make the replica
    that restores differ from the one that replayed.
    """
    packer = msgpack.Packer(strict_types=True)
    yield _MAGIC + cast(bytes, packer.pack([*progress, len(sessions)]))
    for session_id, active_ms, next_sequence, acked, results in sessions:
        listed = [[int(status), content] for status, content in results]
        yield cast(bytes, packer.pack([session_id, active_ms, next_sequence, acked, listed]))
    for piece in pieces:
        try:
            packed = cast(bytes, packer.pack([piece]))
        except (TypeError, ValueError, OverflowError) as error:
            raise ApplicationStateError(
                f"the state of {owner} cannot be snapshotted: {error}; keep None, bool, int below 2**64, float, str, "
                "bytes, list and dict in its attributes, or give it a snapshot() and a restore() of its own"
            ) from error
        if len(packed) > PIECE_BYTES_MAX:
            raise ApplicationStateError(
                f"the state of {owner} cannot be snapshotted: {len(packed)} bytes in one piece, at most "
                f"{PIECE_BYTES_MAX}; derive it from FreezableApplication and give it out in smaller ones"
            )
        yield packed
    yield cast(bytes, packer.pack([]))


class StateDecoder:
    """Reads a snapshot from chunks of any size: first `progress` and `sessions`, then `pieces` to their end.

    Everything raises ApplicationStateError for what `encode_state` did not write.
    """

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._values = _values(chunks)
        head = next(self._values, None)
        if type(head) is not list or len(head) != _FIELDS:
            raise ApplicationStateError(f"the snapshot is malformed: it must begin with {_FIELDS} numbers")
        *fields, count = head
        self.progress = ReplicaProgress(*fields)
        if not all(type(number) is int and 0 <= number < _INDEX_MAX for number in head):
            raise ApplicationStateError("the snapshot is malformed: index, term and time are whole numbers")
        if self.progress.digest >= _DIGEST_MAX:
            raise ApplicationStateError("the snapshot is malformed: the digest is a number of 32 bits")
        self.sessions: list[object] = []
        while len(self.sessions) < count:
            try:
                self.sessions.append(next(self._values))
            except StopIteration:
                raise ApplicationStateError("the snapshot is malformed: sessions are missing") from None

    def pieces(self) -> Iterator[object]:
        """The pieces of the application's state."""
        for wrapped in self._values:
            if type(wrapped) is not list or len(wrapped) > 1:
                raise ApplicationStateError("the snapshot is malformed: a piece stands alone in an array")
            if not wrapped:
                break
            yield wrapped[0]
        else:
            raise ApplicationStateError("the snapshot is malformed: its end is missing")
        for _ in self._values:
            raise ApplicationStateError("the snapshot is malformed: it goes on behind its end")


def _values(chunks: Iterable[bytes | memoryview]) -> Iterator[object]:
    unpacker = msgpack.Unpacker(
        raw=False, strict_map_key=False, max_buffer_size=PIECE_BYTES_MAX, max_ext_len=0, use_list=True
    )
    head = b""
    for chunk in chunks:
        if len(head) < len(_MAGIC):
            head += bytes(chunk)
            if len(head) < len(_MAGIC):
                continue
            _check_magic(head)
            chunk = head[len(_MAGIC) :]  # noqa: PLW2901  # the first chunk without what stands before the values
        yield from _feed(unpacker, chunk)
    _check_magic(head)
    # One more value shows whether the stream ended between two: inside of one it would become a part of that.
    if list(_feed(unpacker, _NIL)) != [None]:
        raise ApplicationStateError("the snapshot is malformed: it ends inside a value")


def _feed(unpacker: Any, chunk: bytes | memoryview) -> Iterator[object]:
    try:
        unpacker.feed(chunk)
        yield from unpacker
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        # TypeError: a map key that cannot be hashed.
        raise ApplicationStateError(f"the snapshot is malformed: {type(error).__name__}: {error}") from error


def _check_magic(head: bytes) -> None:
    if not head.startswith(_MAGIC):
        raise ApplicationStateError("the snapshot is not one of an application, or of another version of its format")
