"""The snapshot of a replica: one msgpack value behind a magic, for the application's state and everything around it.

Unlike messages, a snapshot was made by a node, its size is the application's own, and its maps may have any scalar
keys; so it has an encoding with other limits than `raftactors.codec.msgpack`.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import msgpack  # type: ignore[import-untyped]  # it ships no type information

from raftactors.errors import ApplicationStateError

_MAGIC = b"RAFA\x01"
_INDEX_MAX = 2**64
_DIGEST_MAX = 2**32


class ReplicaState(NamedTuple):
    """What a snapshot holds, as one unit."""

    applied_index: int
    applied_term: int
    now_ms: int
    digest: int
    sessions: object
    application: object


def encode_state(state: ReplicaState, owner: str) -> bytes:
    """Encode a snapshot; `owner` names the application in the text of the ApplicationStateError.

    The types are taken exactly: a tuple, a set or a subclass would come back as another type and make the replica
    that restores differ from the one that replayed.
    """
    try:
        packed = cast(bytes, msgpack.Packer(strict_types=True).pack(list(state)))
    except (TypeError, ValueError, OverflowError) as error:
        raise ApplicationStateError(
            f"the state of {owner} cannot be snapshotted: {error}; keep None, bool, int below 2**64, float, str, "
            "bytes, list and dict in its attributes, or give it a snapshot() and a restore() of its own"
        ) from error
    return _MAGIC + packed


def decode_state(snapshot: bytes | memoryview) -> ReplicaState:
    """Decode a snapshot. Raises ApplicationStateError for anything that `encode_state` did not write."""
    view = memoryview(snapshot)
    if view[: len(_MAGIC)] != _MAGIC:
        raise ApplicationStateError("the snapshot is not one of an application, or of another version of its format")
    size = len(view)
    try:
        value = msgpack.unpackb(
            view[len(_MAGIC) :],
            raw=False,
            strict_map_key=False,
            max_array_len=size,
            max_map_len=size,
            max_str_len=size,
            max_bin_len=size,
            max_ext_len=0,
        )
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        # TypeError: a map key that cannot be hashed.
        raise ApplicationStateError(f"the snapshot is malformed: {type(error).__name__}: {error}") from error
    if type(value) is not list or len(value) != len(ReplicaState._fields):
        raise ApplicationStateError(f"the snapshot is malformed: it must have {len(ReplicaState._fields)} fields")
    state = ReplicaState(*value)
    numbers = (state.applied_index, state.applied_term, state.now_ms)
    if not all(type(number) is int and 0 <= number < _INDEX_MAX for number in numbers):
        raise ApplicationStateError("the snapshot is malformed: index, term and time are whole numbers")
    if type(state.digest) is not int or not 0 <= state.digest < _DIGEST_MAX:
        raise ApplicationStateError("the snapshot is malformed: the digest is a number of 32 bits")
    return state
