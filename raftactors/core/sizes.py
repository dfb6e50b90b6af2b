"""What an entry counts as, in bytes, where a limit speaks of bytes.

Two measures exist. The *encoded size* is the length of the protocol-buffer form of an entry; it bounds messages and
what is handed out for application. The *payload size* is the length of the data alone; it bounds the uncommitted
tail and what is in flight to one follower. The encoded size is a measure only: nothing here is ever encoded so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftactors.core.types import UNLIMITED, Entry


def varint_size(value: int) -> int:
    """Bytes of a non-negative integer in base 128."""
    return (value.bit_length() + 6) // 7 or 1


def entry_size(entry: Entry) -> int:
    """Encoded size of one entry, in bytes. An absent payload costs nothing, an empty one two bytes."""
    # An entry type fits one byte; with the three field tags that makes four fixed bytes.
    size = 4 + ((entry.term.bit_length() + 6) // 7 or 1) + ((entry.index.bit_length() + 6) // 7 or 1)
    data = entry.data
    if data is None:
        return size
    length = len(data)
    return size + 1 + ((length.bit_length() + 6) // 7 or 1) + length


def entries_size(entries: Iterable[Entry]) -> int:
    """Encoded size of several entries, in bytes."""
    return sum(map(entry_size, entries))


def payload_size(entry: Entry) -> int:
    """Length of the payload in bytes, 0 if it is absent."""
    data = entry.data
    return 0 if data is None else len(data)


def payloads_size(entries: Iterable[Entry]) -> int:
    """Payload bytes of several entries together."""
    size = 0
    for entry in entries:
        if entry.data is not None:
            size += len(entry.data)
    return size


def prefix_count(entries: Sequence[Entry], bytes_max: int) -> int:
    """How many entries from the first on fit into `bytes_max` encoded bytes: at least one, if there is one."""
    if bytes_max >= UNLIMITED:
        return len(entries)
    size = 0
    for count, entry in enumerate(entries):
        size += entry_size(entry)
        if size > bytes_max:
            return count or 1
    return len(entries)
