"""What clients and nodes say to each other: the body of each client frame and of each reply.

All little endian; the layouts stand beside the functions. A client's body starts with its `request` number (u64, unique
per connection): `encode_*` of a client frame writes the whole body, a node takes the number off with `split_request`,
and `decode_*` reads the rest. The rest of a `LOGGED_KINDS` frame, behind its kind byte, is what goes into the log.

Every decoder is bounded by its buffer and raises WireError with a reason for anything malformed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from itertools import accumulate, pairwise
from typing import NamedTuple

from raftactors.codec.msgpack import pack, unpack
from raftactors.errors import InvariantViolation, WireError

_REQUEST = struct.Struct("<Q")
_COMMANDS = struct.Struct("<QQQI")
_QUERIES = struct.Struct("<BI")
_SESSION = struct.Struct("<Q")
_KEEP_ALIVE = struct.Struct("<QQ")

FRAME_COMMANDS_MAX = 4_096
"""Commands or queries in one frame."""

SEQUENCE_MAX = 2**63
"""Sequences run from 1 and stay below this."""


REQUEST_OPTIONS = frozenset({"level", "timeout_ms"})
"""What a caller may give by name beside a method's own arguments; an argument of the same name comes first."""


class FrameKind(IntEnum):
    """The kind of a client frame; the envelope carries it, and the first byte of a frame inside a batch."""

    HELLO = 1
    WELCOME = 2
    COMMANDS = 3
    OPEN_SESSION = 4
    CLOSE_SESSION = 5
    KEEP_ALIVE = 6
    QUERIES = 7
    ADMIN = 8
    REPLIES = 9


LOGGED_KINDS = frozenset({FrameKind.COMMANDS, FrameKind.OPEN_SESSION, FrameKind.CLOSE_SESSION, FrameKind.KEEP_ALIVE})
"""The frames that travel through the log."""


class Level(IntEnum):
    """How fresh the answer of a query must be."""

    LINEARIZABLE = 1


_LEVELS = {int(level): level for level in Level}


class Hello(NamedTuple):
    """A client's first words."""

    client_version: str


class Welcome(NamedTuple):
    """A node's answer to HELLO. `limits` holds command_bytes_max, client_frame_bytes_max and session_inflight_max.

    `option_arguments` are pairs of a method of the application and an argument of it that has the name of a request
    option, so that a client can tell one from the other.
    """

    node_id: int
    leader_id: int
    members: list[tuple[int, str]]
    limits: dict[str, int]
    application: str
    cluster_id: int
    option_arguments: tuple[tuple[str, str], ...] = ()


class CommandsHeader(NamedTuple):
    """A COMMANDS frame without its commands; `largest` is the size of its largest command in bytes."""

    session: int
    first_sequence: int
    acked: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    largest: int


class Commands(NamedTuple):
    """Consecutive commands of one session, the first with `first_sequence`; every reply up to `acked` has arrived.

    Session 0 is "no session": the commands are executed as often as they come.
    """

    session: int
    first_sequence: int
    acked: int
    commands: list[memoryview]


class KeepAlive(NamedTuple):
    """A sign of life of a session without a command."""

    session: int
    acked: int


class Queries(NamedTuple):
    """Reads that share one level."""

    level: Level
    queries: list[memoryview]


class Admin(NamedTuple):
    """An operator's request."""

    operation: str
    arguments: list[object]


def split_request(body: bytes | memoryview) -> tuple[int, memoryview]:
    """Take the request number off a client's body; the rest is what the decoders below read."""
    if len(body) < _REQUEST.size:
        raise WireError("frame_truncated", f"{len(body)} bytes for a request number of {_REQUEST.size}")
    return _REQUEST.unpack_from(body)[0], memoryview(body)[_REQUEST.size :]


def encode_hello(request: int, client_version: str) -> bytes:
    """HELLO: msgpack [client version]."""
    return _REQUEST.pack(request) + pack([client_version])


def decode_hello(rest: bytes | memoryview) -> Hello:
    """Read a HELLO."""
    value = unpack(rest)
    if not (type(value) is list and len(value) == 1 and type(value[0]) is str):
        raise WireError("hello_shape", "a HELLO is [client version]")
    return Hello(value[0])


def encode_welcome(welcome: Welcome) -> bytes:
    """WELCOME: msgpack [node id, leader id, [[id, client address], ...], limits, application, cluster id, pairs].

    The pairs are [[method, argument], ...].
    """
    return pack(welcome)


def decode_welcome(body: bytes | memoryview) -> Welcome:
    """Read a WELCOME, checking every field."""
    value = unpack(body)
    if not (type(value) is list and len(value) == 7):
        raise WireError("welcome_shape", "a WELCOME has 7 fields")
    node_id, leader_id, members, limits, application, cluster_id, pairs = value
    if not (_is_id(node_id) and _is_id(leader_id) and _is_id(cluster_id) and type(application) is str):
        raise WireError("welcome_shape", "node id, leader id, cluster id and application name are needed")
    if not (type(limits) is dict and all(type(key) is str and _is_id(limit) for key, limit in limits.items())):
        raise WireError("welcome_shape", "limits map names to whole numbers")
    if not (type(members) is list and all(_is_member(member) for member in members)):
        raise WireError("welcome_shape", "members are pairs of node id and client address")
    if not (type(pairs) is list and all(_is_pair(pair) for pair in pairs)):
        raise WireError("welcome_shape", "option arguments are pairs of method and argument")
    known = [(member[0], member[1]) for member in members]
    option_arguments = tuple((pair[0], pair[1]) for pair in pairs)
    return Welcome(node_id, leader_id, known, limits, application, cluster_id, option_arguments)


def encode_commands(request: int, *, session: int, first_sequence: int, acked: int, commands: Sequence[bytes]) -> bytes:
    """COMMANDS: session u64, first sequence u64, acked u64, count u32, lengths u32 * count, commands joined."""
    _check_count(len(commands))
    header = _REQUEST.pack(request) + _COMMANDS.pack(session, first_sequence, acked, len(commands))
    return b"".join((header, _pack_lengths(commands), *commands))


def read_commands_header(rest: bytes | memoryview) -> CommandsHeader:
    """Check the structure of a COMMANDS frame without cutting it up: what a gateway needs to admit it."""
    session, first_sequence, acked, count = _unpack_commands_header(rest)
    lengths = _read_lengths(rest, _COMMANDS.size, count)
    return CommandsHeader(session, first_sequence, acked, count, max(lengths))


def decode_commands(rest: bytes | memoryview) -> Commands:
    """Read a COMMANDS frame; the commands are views into the buffer."""
    session, first_sequence, acked, count = _unpack_commands_header(rest)
    return Commands(session, first_sequence, acked, _cut(rest, _COMMANDS.size, count))


def encode_queries(request: int, *, level: Level, queries: Sequence[bytes]) -> bytes:
    """QUERIES: level u8, count u32, lengths u32 * count, queries joined."""
    _check_count(len(queries))
    header = _REQUEST.pack(request) + _QUERIES.pack(level, len(queries))
    return b"".join((header, _pack_lengths(queries), *queries))


def check_queries(rest: bytes | memoryview) -> None:
    """Raise WireError where `decode_queries` would, without cutting the frame up: what a gateway needs to admit it."""
    _, count = _unpack_queries_header(rest)
    _read_lengths(rest, _QUERIES.size, count)


def decode_queries(rest: bytes | memoryview) -> Queries:
    """Read a QUERIES frame; the queries are views into the buffer."""
    level, count = _unpack_queries_header(rest)
    return Queries(level, _cut(rest, _QUERIES.size, count))


def encode_open_session(request: int) -> bytes:
    """OPEN_SESSION: msgpack []."""
    return _REQUEST.pack(request) + pack([])


def decode_open_session(rest: bytes | memoryview) -> None:
    """Read an OPEN_SESSION, which says nothing yet."""
    if unpack(rest) != []:
        raise WireError("open_session_shape", "an OPEN_SESSION is []")


def encode_close_session(request: int, session: int) -> bytes:
    """CLOSE_SESSION: session u64."""
    return _REQUEST.pack(request) + _SESSION.pack(session)


def decode_close_session(rest: bytes | memoryview) -> int:
    """Read a CLOSE_SESSION; returns the session."""
    if len(rest) != _SESSION.size:
        raise WireError("frame_length", f"{len(rest)} bytes for a CLOSE_SESSION of {_SESSION.size}")
    session: int = _SESSION.unpack(rest)[0]
    return session


def encode_keep_alive(request: int, *, session: int, acked: int) -> bytes:
    """KEEP_ALIVE: session u64, acked u64."""
    return _REQUEST.pack(request) + _KEEP_ALIVE.pack(session, acked)


def decode_keep_alive(rest: bytes | memoryview) -> KeepAlive:
    """Read a KEEP_ALIVE."""
    if len(rest) != _KEEP_ALIVE.size:
        raise WireError("frame_length", f"{len(rest)} bytes for a KEEP_ALIVE of {_KEEP_ALIVE.size}")
    return KeepAlive(*_KEEP_ALIVE.unpack(rest))


def encode_admin(request: int, operation: str, arguments: Sequence[object] = ()) -> bytes:
    """ADMIN: msgpack [operation, [arguments]]."""
    return _REQUEST.pack(request) + pack([operation, list(arguments)])


def decode_admin(rest: bytes | memoryview) -> Admin:
    """Read an ADMIN frame; the operation and its arguments are the receiver's to judge."""
    value = unpack(rest)
    if not (type(value) is list and len(value) == 2 and type(value[0]) is str and type(value[1]) is list):
        raise WireError("admin_shape", "an ADMIN frame is [operation, [arguments]]")
    return Admin(value[0], value[1])


def encode_call(method: str, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None) -> bytes:
    """One command or query: msgpack [method, [args], {kwargs}]."""
    return pack([method, list(args), dict(kwargs) if kwargs else {}])


def _unpack_commands_header(rest: bytes | memoryview) -> tuple[int, int, int, int]:
    if len(rest) < _COMMANDS.size:
        raise WireError("frame_truncated", f"{len(rest)} bytes for a COMMANDS header of {_COMMANDS.size}")
    session, first_sequence, acked, count = _COMMANDS.unpack_from(rest)
    if not 1 <= first_sequence <= SEQUENCE_MAX - FRAME_COMMANDS_MAX:
        raise WireError("sequence_range", f"first sequence {first_sequence}; sequences start with 1")
    return session, first_sequence, acked, count


def _unpack_queries_header(rest: bytes | memoryview) -> tuple[Level, int]:
    if len(rest) < _QUERIES.size:
        raise WireError("frame_truncated", f"{len(rest)} bytes for a QUERIES header of {_QUERIES.size}")
    code, count = _QUERIES.unpack_from(rest)
    level = _LEVELS.get(code)
    if level is None:
        raise WireError("level_unknown", f"query level {code}")
    return level, count


def _pack_lengths(parts: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(parts)}I", *map(len, parts))


def _read_lengths(rest: bytes | memoryview, offset: int, count: int) -> tuple[int, ...]:
    """Read the length table at `offset`; afterwards the parts behind it are known to fill the buffer exactly."""
    if not 1 <= count <= FRAME_COMMANDS_MAX:
        raise WireError("frame_count", f"{count} in one frame; 1 to {FRAME_COMMANDS_MAX} are allowed")
    start = offset + 4 * count
    if len(rest) < start:
        raise WireError("frame_truncated", f"{len(rest)} bytes for a length table that ends at {start}")
    lengths = struct.unpack_from(f"<{count}I", rest, offset)
    if start + sum(lengths) != len(rest):
        raise WireError("frame_length", f"the lengths promise {start + sum(lengths)} bytes, {len(rest)} came")
    return lengths


def _cut(rest: bytes | memoryview, offset: int, count: int) -> list[memoryview]:
    lengths = _read_lengths(rest, offset, count)
    view = memoryview(rest)
    return [view[start:end] for start, end in pairwise(accumulate(lengths, initial=offset + 4 * count))]


def _check_count(count: int) -> None:
    if not 1 <= count <= FRAME_COMMANDS_MAX:
        raise InvariantViolation(f"a frame of {count}; 1 to {FRAME_COMMANDS_MAX} are allowed")


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**64


def _is_pair(value: object) -> bool:
    return type(value) is list and len(value) == 2 and type(value[0]) is str and type(value[1]) is str


def _is_member(value: object) -> bool:
    return type(value) is list and len(value) == 2 and _is_id(value[0]) and type(value[1]) is str
