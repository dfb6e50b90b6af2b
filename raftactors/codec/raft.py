"""Raft messages between peers: the body of a frame.

A frame body holds several messages: count u32, then per message (kind u8, length u32), then the bodies joined. A body
is a msgpack array of the scalars that its kind uses, in the order of `_FIELDS`; a kind that carries entries has in
front of it: array length u16, entry count u32, and behind it the length of each entry u32 and the entries in the form
of `raftactors.codec.entries`. Entries never enter msgpack, whose part is thus at most 64 KiB a message.

Who sends to whom stands in the envelope. Only a message that a follower may hand on to the leader names its first
sender itself. Snapshots have a socket of their own and are refused here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from raftactors.codec.entries import ENTRY_HEADER_BYTES, decode_entry, encode_entry
from raftactors.codec.msgpack import MSGPACK_BYTES_MAX, pack, unpack
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import Entry
from raftactors.errors import InvariantViolation, WireError

NUMBER_MAX = 2**63 - 1
"""Terms, indexes and node ids stay below 2**63, so that adding to one never leaves the eight bytes of its record."""

ENTRIES_MAX = 65_536
"""How many entries one message may carry; the decoder may be told a smaller number."""

MESSAGES_MAX = 4_096
"""How many messages one frame may carry."""

CONTEXT_BYTES_MAX = 4_096
"""How long the context of a read or a forced election may be."""

_SPLIT = struct.Struct("<HI")
_COUNT = struct.Struct("<I")
_LISTED = struct.Struct("<BI")

MESSAGE_OVERHEAD_BYTES = _LISTED.size
"""What a message costs in a frame body beyond its own."""

BODY_OVERHEAD_BYTES = _COUNT.size
"""What a frame body costs beyond its messages."""

# The fields that a message of each kind carries over the wire; the others are at their defaults.
_FIELDS: dict[MessageType, tuple[str, ...]] = {
    MessageType.PROP: ("sender", "entries"),
    MessageType.APP: ("term", "log_term", "index", "commit", "entries"),
    MessageType.APP_RESP: ("term", "log_term", "index", "reject", "reject_hint"),
    MessageType.VOTE: ("term", "log_term", "index", "context"),
    MessageType.VOTE_RESP: ("term", "reject"),
    MessageType.HEARTBEAT: ("term", "commit", "context"),
    MessageType.HEARTBEAT_RESP: ("term", "context"),
    MessageType.TRANSFER_LEADER: ("sender", "term"),
    MessageType.TIMEOUT_NOW: ("term",),
    MessageType.READ_INDEX: ("sender", "entries", "context"),
    MessageType.READ_INDEX_RESP: ("term", "index", "entries", "context"),
    MessageType.PRE_VOTE: ("term", "log_term", "index", "context"),
    MessageType.PRE_VOTE_RESP: ("term", "reject"),
}
_POSITIONS = {name: position for position, name in enumerate(Message._fields)}
_DEFAULTS: dict[str, Any] = Message._field_defaults
_BLANK = tuple(_DEFAULTS.get(name, 0) for name in Message._fields)


class _Kind(NamedTuple):
    """How messages of one kind are laid out. `scalars` are positions in Message, in wire order."""

    type: MessageType
    scalars: tuple[int, ...]
    take: Callable[[Message], tuple[Any, ...]]
    unused: Callable[[Message], tuple[Any, ...]]
    unused_defaults: tuple[Any, ...]
    has_entries: bool
    names_sender: bool


def _kind_of(message_type: MessageType, fields: tuple[str, ...]) -> _Kind:
    scalars = tuple(_POSITIONS[name] for name in fields if name != "entries")
    carried = {*fields, "type", "to", "sender"}
    unused = tuple(position for name, position in _POSITIONS.items() if name not in carried)
    # An itemgetter of one position gives the bare value; naming it twice keeps the result a tuple.
    getter = itemgetter(*scalars) if len(scalars) > 1 else (lambda message: (message[scalars[0]],))
    return _Kind(
        type=message_type,
        scalars=scalars,
        take=getter,
        unused=itemgetter(*unused),
        unused_defaults=tuple(_BLANK[position] for position in unused),
        has_entries="entries" in fields,
        names_sender="sender" in fields,
    )


_KINDS = {int(message_type): _kind_of(message_type, fields) for message_type, fields in _FIELDS.items()}
_TYPE, _TO, _SENDER, _TERM, _ENTRIES, _REJECT, _CONTEXT = (
    _POSITIONS[name] for name in ("type", "to", "sender", "term", "entries", "reject", "context")
)


def encode_message(message: Message) -> bytes:
    """Encode one message without its kind and, save for kinds that are handed on, its sender.

    Raises WireError: `kind` for a kind that never travels between peers, snapshots included, `context_oversize` and
    `entries_many` above CONTEXT_BYTES_MAX and ENTRIES_MAX. A message with a field that its kind does not carry stops
    the program: dropping the field in silence could break a promise of Raft.
    """
    kind = _KINDS.get(message.type)
    if kind is None:
        raise WireError("kind", f"{message.type!r} does not travel on the peer socket")
    if kind.unused(message) != kind.unused_defaults:
        raise InvariantViolation(f"{message.type.name} has no wire field for a value in {message!r}")
    if len(message.context) > CONTEXT_BYTES_MAX:
        raise WireError("context_oversize", f"{len(message.context)} bytes, at most {CONTEXT_BYTES_MAX}")
    head = pack(kind.take(message))
    if not kind.has_entries:
        return head
    count = len(message.entries)
    if count > ENTRIES_MAX:
        raise WireError("entries_many", f"{count}, at most {ENTRIES_MAX}")
    entries = [encode_entry(entry) for entry in message.entries]
    table = struct.pack(f"<{count}I", *map(len, entries))
    return b"".join((_SPLIT.pack(len(head), count), head, table, *entries))


def decode_message(
    body: memoryview | bytes, *, kind: int, to: int, sender: int, entries_max: int = ENTRIES_MAX
) -> Message:
    """Decode and check one message that the envelope's `sender` sent to node `to`.

    Appended entries follow `index` without a gap, with terms that do not decrease, from `log_term` to `term`; entries
    of other kinds are not in the log yet and have term and index 0. Raises WireError for anything else.
    """
    layout = _KINDS.get(kind)
    if layout is None:
        raise WireError("kind", f"{kind} does not travel on the peer socket")
    row = list(_BLANK)
    row[_TYPE], row[_TO], row[_SENDER] = layout.type, to, sender
    head: memoryview | bytes = body
    if layout.has_entries:
        head, row[_ENTRIES] = _split_entries(body, entries_max)
    _fill(row, layout, unpack(head, bytes_max=MSGPACK_BYTES_MAX))
    message = Message._make(row)
    if message.entries:
        _check_entries(message)
    return message


def encode_messages(messages: Sequence[Message]) -> bytes:
    """Encode the messages of one frame, all to one peer. Raises what `encode_message` raises."""
    return join_messages([(message.type, encode_message(message)) for message in messages])


def join_messages(bodies: Sequence[tuple[int, bytes]]) -> bytes:
    """Make one frame body of (kind, encoded message) pairs, at most MESSAGES_MAX of them."""
    table = b"".join([_LISTED.pack(kind, len(body)) for kind, body in bodies])
    return b"".join((_COUNT.pack(len(bodies)), table, *[body for _, body in bodies]))


def decode_messages(body: memoryview | bytes, *, to: int, sender: int, entries_max: int = ENTRIES_MAX) -> list[Message]:
    """Decode all messages of one frame body. Raises WireError when any of them, or the table, is not right.

    `entries_max` bounds the entries of each message; the frame's size bounds all of them together.
    """
    size = len(body)
    if size < _COUNT.size:
        raise WireError("messages_truncated", f"{size} bytes")
    (count,) = _COUNT.unpack_from(body)
    offset = _COUNT.size + count * _LISTED.size
    if count > MESSAGES_MAX:
        raise WireError("messages_many", f"{count}, at most {MESSAGES_MAX}")
    if offset > size:
        raise WireError("messages_truncated", f"{size} bytes for a table of {count} messages")
    view = memoryview(body)
    messages = []
    for kind, length in _LISTED.iter_unpack(view[_COUNT.size : offset]):
        end = offset + length
        if end > size:
            raise WireError("messages_truncated", f"{size - offset} bytes left for a message of {length}")
        messages.append(decode_message(view[offset:end], kind=kind, to=to, sender=sender, entries_max=entries_max))
        offset = end
    if offset != size:
        raise WireError("messages_trailing", f"{size - offset} bytes behind the last message")
    return messages


def _split_entries(body: memoryview | bytes, entries_max: int) -> tuple[memoryview | bytes, tuple[Entry, ...]]:
    """Take the msgpack head and the entries apart, checking every length before anything is allocated."""
    size = len(body)
    if size < _SPLIT.size:
        raise WireError("entries_truncated", f"{size} bytes")
    head_bytes, count = _SPLIT.unpack_from(body)
    table = _SPLIT.size + head_bytes
    offset = table + 4 * count
    if count > entries_max:
        raise WireError("entries_many", f"{count}, at most {entries_max}")
    if offset + count * ENTRY_HEADER_BYTES > size:
        raise WireError("entries_truncated", f"{size} bytes for a head of {head_bytes} and {count} entries")
    entries = []
    for length in struct.unpack_from(f"<{count}I", body, table):
        entry, end = decode_entry(body, offset)
        if end - offset != length:
            raise WireError("entry_length", f"{end - offset} bytes, the table says {length}")
        entries.append(entry)
        offset = end
    if offset != size:
        raise WireError("entries_trailing", f"{size - offset} bytes behind the last entry")
    return body[_SPLIT.size : table], tuple(entries)


def _fill(row: list[Any], layout: _Kind, values: object) -> None:
    """Put the checked scalars of the wire into the fields of `row`."""
    if type(values) is not list or len(values) != len(layout.scalars):
        raise WireError("schema", f"{layout.type.name} needs an array of {len(layout.scalars)}")
    for position, value in zip(layout.scalars, values, strict=True):
        if position == _REJECT:
            fits = type(value) is bool
        elif position == _CONTEXT:
            fits = type(value) is bytes and len(value) <= CONTEXT_BYTES_MAX
        else:
            # bool is an int to Python, and -1 a valid index into a list: only the exact type in its range passes.
            fits = type(value) is int and 0 <= value <= NUMBER_MAX
        if not fits:
            raise WireError("schema", f"{layout.type.name}.{Message._fields[position]} has a value that does not fit")
        row[position] = value
    # The core takes a message without a term for one of its own.
    if row[_TERM] == 0 and _TERM in layout.scalars:
        raise WireError("schema", f"{layout.type.name}.term is 0")
    if layout.names_sender and row[_SENDER] == 0:
        raise WireError("schema", f"{layout.type.name}.sender is 0")


def _check_entries(message: Message) -> None:
    """Check that the entries follow each other and the log in front of them (Raft paper Figure 2, AppendEntries)."""
    if message.type is not MessageType.APP:
        for entry in message.entries:
            if entry.term != 0 or entry.index != 0:
                raise WireError("entry_order", f"entry {entry.term}/{entry.index} of {message.type.name} is numbered")
        return
    index, term = message.index, message.log_term
    for entry in message.entries:
        index += 1
        if entry.index != index or not max(term, 1) <= entry.term <= message.term:
            raise WireError("entry_order", f"entry {entry.term}/{entry.index} cannot follow {term}/{index - 1}")
        term = entry.term
