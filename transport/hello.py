"""The first message on each new connection between peers. Nothing else is processed before it.

Cluster, node and incarnation stand in the envelope; the body is a msgpack array of the lowest and the highest protocol
version spoken and of feature bits. ZeroMQ reconnects without telling, so a link sends it again when its monitor
reports a new connection, and a listener that misses it asks with an empty HELLO_WANTED over its own link.
"""

from __future__ import annotations

from typing import NamedTuple

from raftactors.codec.msgpack import pack, unpack
from raftactors.errors import WireError

PROTOCOL_VERSION_MIN = 1
PROTOCOL_VERSION_MAX = 1


class Hello(NamedTuple):
    """What a node speaks. Unknown feature bits are ignored: a feature is used only when both sides have its bit."""

    version_min: int = PROTOCOL_VERSION_MIN
    version_max: int = PROTOCOL_VERSION_MAX
    features: int = 0


def encode_hello(hello: Hello) -> bytes:
    """Encode the body of a HELLO."""
    return pack(tuple(hello))


def decode_hello(body: memoryview | bytes) -> Hello:
    """Decode and check the body of a HELLO.

    Raises WireError: `schema` for anything but the array of three, `version_range` if no version is common to both.
    """
    values = unpack(body, bytes_max=64)
    if type(values) is not list or len(values) != 3:
        raise WireError("schema", "a HELLO is an array of 3")
    if any(type(value) is not int or value < 0 for value in values):
        raise WireError("schema", f"a HELLO has whole numbers, not {values!r}")
    hello = Hello(*values)
    if hello.version_min > PROTOCOL_VERSION_MAX or hello.version_max < PROTOCOL_VERSION_MIN:
        raise WireError(
            "version_range",
            f"{hello.version_min} to {hello.version_max}, spoken are {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}",
        )
    return hello
