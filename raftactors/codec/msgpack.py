"""The one place where msgpack is packed and unpacked, with limits, and where its errors become ours.

What `pack` gives out keeps the limits of `unpack` in size of shape (`raftactors.codec.shape`); `pack_readable` makes
sure of the rest, so that a result which a node gives is one that its client can read. With these limits what comes out
of a frame takes at most 4 times its bytes and 8 MiB. Messages of the protocol itself are at most `MSGPACK_BYTES_MAX`
long, and large payloads travel beside them as raw bytes.
"""

from __future__ import annotations

import threading
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]  # it ships no type information

from raftactors.codec.shape import DEPTH_MAX, check_shape
from raftactors.codec.uncarriable import what_is_uncarriable
from raftactors.errors import ArgumentsError, WireError

MSGPACK_BYTES_MAX = 64 * 1024
"""How long a msgpack value from outside may be when the caller says nothing else."""

MALFORMED = "msgpack_malformed"
"""The reason of a WireError whose text is the library's, which differs between versions."""

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class _ThreadPacker(threading.local):
    """One packer a thread: a packer keeps its buffer, which halves the cost of a small value, but is not shareable."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_packer = _ThreadPacker()


def pack(value: object) -> bytes:
    """Encode a value of None, bool, int, float, str, bytes, list, tuple and dict.

    Tuples become arrays, subclasses what they derive from. Raises ArgumentsError for any other type, an integer outside
    [-2**63, 2**64), a lone surrogate in a string, more than VALUES_MAX values or more than DEPTH_MAX levels; the text
    names what it is, where it stands and the way out.
    """
    try:
        content = cast(bytes, _packer.pack(value))
        if len(content) > DEPTH_MAX:
            check_shape(content)
    except (TypeError, ValueError, OverflowError, WireError) as error:
        raise ArgumentsError(f"the value cannot be encoded: {what_is_uncarriable(value)}") from error
    return content


def pack_readable(value: object) -> bytes:
    """Encode a value that the other side must be able to read: whatever `unpack` would refuse is refused here.

    Raises ArgumentsError as `pack` does, and also for keys and extension types that `unpack` does not take.
    """
    content = pack(value)
    if type(value) not in _PLAIN:
        try:
            unpack(content, bytes_max=len(content))
        except WireError as error:
            raise ArgumentsError(f"the value cannot be read: {what_is_uncarriable(value)}") from error
    return content


def unpack(buffer: bytes | memoryview, *, bytes_max: int = MSGPACK_BYTES_MAX) -> Any:
    """Decode exactly one value from outside. Arrays become lists; keys are None, bool, int, float, str or bytes.

    Raises WireError for more than `bytes_max` bytes, more than VALUES_MAX values, more than DEPTH_MAX levels, extension
    types, timestamps, lists and maps as keys, invalid UTF-8, bytes after the value, or anything malformed.
    """
    length = len(buffer)
    if length > bytes_max:
        raise WireError("msgpack_oversize", f"{length} bytes, at most {bytes_max}")
    if length > DEPTH_MAX:
        check_shape(buffer)
    try:
        return msgpack.unpackb(
            buffer,
            raw=False,
            strict_map_key=False,
            max_array_len=length,
            max_map_len=length,
            max_str_len=length,
            max_bin_len=length,
            max_ext_len=0,
            ext_hook=_refuse_extension,
        )
    except TypeError as error:
        raise WireError("msgpack_key", "a list or a dict is the key of a dict") from error
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(MALFORMED, f"{type(error).__name__}: {error}") from error


def _refuse_extension(code: int, content: bytes) -> object:
    """The limit of their length lets through those of none."""
    raise ValueError(f"an extension of type {code} with {len(content)} bytes")
