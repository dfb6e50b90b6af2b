"""The first messages on each new connection between members. Nothing else is processed before them.

Anybody may connect and claim to be a member, so a HELLO counts only when it holds the challenge that this node sent to
the member's own address. A node that is greeted without it, or meets frames of a connection that has not greeted,
sends HELLO_WANTED with its challenge over its own link; the member answers with a HELLO that holds it. A challenge
lives as long as the process. ZeroMQ reconnects without telling, so a link greets again when its monitor reports a new
connection, at first without an answer.

Cluster, node and incarnation stand in the envelope. The body of a HELLO is a msgpack array of the lowest and the
highest protocol version spoken, feature bits, the answer to the receiver's challenge (0: none known yet) and the
largest incarnation of the receiver that was confirmed here (0: none). That of a HELLO_WANTED is an array of one.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from raftactors.codec.msgpack import pack, unpack
from raftactors.errors import WireError

PROTOCOL_VERSION_MIN = 2
PROTOCOL_VERSION_MAX = 2

_NUMBER_MAX = 2**64 - 1


class Hello(NamedTuple):
    """What a node speaks. Unknown feature bits are ignored: a feature is used only when both sides have its bit."""

    version_min: int = PROTOCOL_VERSION_MIN
    version_max: int = PROTOCOL_VERSION_MAX
    features: int = 0
    answer: int = 0
    known_incarnation: int = 0


def new_challenge() -> int:
    """A number from 1 to 2**64 - 1 that nobody can guess."""
    return secrets.randbelow(_NUMBER_MAX) + 1


def encode_hello(hello: Hello) -> bytes:
    """Encode the body of a HELLO."""
    return pack(tuple(hello))


def decode_hello(body: memoryview | bytes) -> Hello:
    """Decode and check the body of a HELLO.

    Raises WireError: `schema` for anything but an array of that many whole numbers, `version_range` if no version is
    common to both.
    """
    hello = Hello(*_numbers(body, len(Hello._fields), "HELLO"))
    if hello.version_min > PROTOCOL_VERSION_MAX or hello.version_max < PROTOCOL_VERSION_MIN:
        raise WireError(
            "version_range",
            f"{hello.version_min} to {hello.version_max}, spoken are {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}",
        )
    return hello


def encode_hello_wanted(challenge: int) -> bytes:
    """Encode the body of a HELLO_WANTED."""
    return pack((challenge,))


def decode_hello_wanted(body: memoryview | bytes) -> int:
    """The challenge in the body of a HELLO_WANTED. Raises WireError `schema`."""
    return _numbers(body, 1, "HELLO_WANTED")[0]


def _numbers(body: memoryview | bytes, count: int, name: str) -> list[int]:
    values = unpack(body, bytes_max=64)
    if type(values) is not list or len(values) != count:
        raise WireError("schema", f"a {name} is an array of {count}")
    if any(type(value) is not int or not 0 <= value <= _NUMBER_MAX for value in values):
        raise WireError("schema", f"a {name} has whole numbers, not {values!r}")
    return values
