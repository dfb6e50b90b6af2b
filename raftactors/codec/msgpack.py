"""The one place where msgpack is packed and unpacked, with limits, and where its errors become ours.

The limits bound what a hostile sender can make out of a small frame, but not fully: nested empty lists that respect
all of them still grow some sixty-fold. That is why msgpack from outside is at most `MSGPACK_BYTES_MAX` long unless the
caller names a larger bound, and why large payloads travel beside it as raw bytes.
"""

from __future__ import annotations

import threading
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]  # it ships no type information

from raftactors.errors import ArgumentsError, WireError

MSGPACK_BYTES_MAX = 64 * 1024
"""How long a msgpack value from outside may be when the caller says nothing else."""

ELEMENTS_MAX = 4096
"""How many elements one array, and how many pairs one map, may have."""


class _ThreadPacker(threading.local):
    """One packer a thread: a packer keeps its buffer, which halves the cost of a small value, but is not shareable."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_packer = _ThreadPacker()


def pack(value: object) -> bytes:
    """Encode a value of None, bool, int, float, str, bytes, list, tuple and dict, nested at most 500 deep.

    Tuples become arrays. Raises ArgumentsError for any other type, an integer outside [-2**63, 2**64) or a lone
    surrogate in a string.
    """
    try:
        return cast(bytes, _packer.pack(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentsError(
            f"the value cannot be encoded ({error}); use None, bool, int below 2**64, float, str, bytes, list or dict"
        ) from error


def unpack(buffer: bytes | memoryview, *, bytes_max: int = MSGPACK_BYTES_MAX) -> Any:
    """Decode exactly one value from outside. Arrays become lists.

    Raises WireError for more than `bytes_max` bytes, more than ELEMENTS_MAX elements in one container, extension
    types, timestamps, map keys other than str and bytes, invalid UTF-8, bytes behind the value, or anything malformed.
    """
    if len(buffer) > bytes_max:
        raise WireError("msgpack_oversize", f"{len(buffer)} bytes, at most {bytes_max}")
    try:
        return msgpack.unpackb(
            buffer,
            raw=False,
            strict_map_key=True,
            max_array_len=ELEMENTS_MAX,
            max_map_len=ELEMENTS_MAX,
            max_str_len=bytes_max,
            max_bin_len=bytes_max,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError("msgpack_malformed", f"{type(error).__name__}: {error}") from error
