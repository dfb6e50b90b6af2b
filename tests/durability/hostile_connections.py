"""Connections of strangers that mean harm, one attack a function: raw bytes, ZMTP that is wrong in many ways, floods.

Every attack takes the address of one port, a seeded generator and how many frames to send, opens connections of its
own, closes them, and returns how many frames left. A node that hangs up ends an attack early and is no error: it is
what a node should do.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import TracebackType
from typing import Self

from raftactors.codec import frames as client_frames
from raftactors.codec.frames import FrameKind, Level
from raftactors.transport.envelope import (
    CLIENT_MAGIC,
    PEER_MAGIC,
    SNAPSHOT_MAGIC,
    Envelope,
    encode_envelope,
)

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING_BYTES = 64
OLD_GREETING = SIGNATURE + b"\x01\x05\x00\x00"
"""ZMTP 2.0: a DEALER without identity."""
STEP_TIMEOUT_S = 2.0
FAR_SESSION = 2**62
"""Sessions from here on belong to nobody: a stranger who hits the session of a client by chance proves nothing."""

_MORE, _LONG, _COMMAND = 1, 2, 4
_LINGER_NONE = struct.pack("ii", 1, 0)

Attack = Callable[[str, Random, int], int]


def greeting(*, minor: int = 1, mechanism: bytes = b"NULL", as_server: int = 0) -> bytes:
    """The 64 bytes with which a ZMTP 3 connection begins."""
    return SIGNATURE + bytes([3, minor]) + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)


def frame(body: bytes, *, more: bool = False, command: bool = False) -> bytes:
    """One ZMTP 2 or 3 frame."""
    flags = _MORE * more | _COMMAND * command
    if len(body) > 255:
        return bytes([flags | _LONG]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


def command(name: bytes, body: bytes = b"") -> bytes:
    """A ZMTP command."""
    return frame(bytes([len(name)]) + name + body, command=True)


def ready(identity: bytes = b"", socket_type: bytes = b"DEALER") -> bytes:
    """The command that ends the handshake."""
    properties = ((b"Socket-Type", socket_type), (b"Identity", identity))
    return command(
        b"READY",
        b"".join(bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in properties),
    )


class Wire:
    """One TCP connection to a node, on which every step has a deadline. Any method may raise OSError."""

    def __init__(self, address: str, *, receive_bytes: int = 0) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_bytes:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.settimeout(STEP_TIMEOUT_S)
            self.socket.connect((host, int(port)))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, content: bytes) -> None:
        """Send all of it in one call."""
        self.socket.sendall(content)

    def greet(self, identity: bytes = b"", *, minor: int = 1) -> None:
        """Go through the handshake of ZMTP 3; what the node says last is left unread."""
        self.send(greeting(minor=minor))
        missing = GREETING_BYTES
        while missing:
            got = self.socket.recv(missing)
            if not got:
                raise ConnectionResetError("the node hung up in the handshake")
            missing -= len(got)
        self.send(ready(identity))

    def reset(self) -> None:
        """Close with RST instead of FIN, at once, whatever is under way."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self.socket.close()


class Sent:
    """Counts frames that left."""

    def __init__(self) -> None:
        self.frames = 0


@contextmanager
def _hung_up_on() -> Iterator[Sent]:
    """Counts the frames of an attack, which may end at any step because the node hangs up, is stopped or is dead."""
    sent = Sent()
    try:
        yield sent
    except OSError:
        return


# --- raw TCP ----------------------------------------------------------------------------------------------------------

_BEGINNINGS = (
    b"",
    SIGNATURE[:9],
    SIGNATURE,
    SIGNATURE + b"\x03\x00NULL",
    b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00",
    b"\x01\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
)


def raw_garbage(address: str, rng: Random, count: int) -> int:
    """Random bytes, some after the first words of ZMTP or of other protocols; now and then ended by a reset."""
    with _hung_up_on() as sent, Wire(address) as wire:
        wire.send(rng.choice(_BEGINNINGS))
        for _ in range(count):
            wire.send(rng.randbytes(rng.choice((1, 2, 9, 64, 500, 2_000))))
            sent.frames += 1
        if rng.random() < 0.3:
            wire.reset()
    return sent.frames


# --- ZMTP -------------------------------------------------------------------------------------------------------------


def garbage_frames(address: str, rng: Random, count: int) -> int:
    """Frames and multipart messages of random bytes."""
    with _hung_up_on() as sent, Wire(address) as wire:
        wire.greet(minor=rng.randrange(2))
        for _ in range(count):
            wire.send(frame(rng.randbytes(rng.choice((0, 1, 48, 255, 256, 3_000))), more=rng.random() < 0.3))
            sent.frames += 1
    return sent.frames


def mutated_frames(address: str, rng: Random, count: int, *, cluster_id: int = 1) -> int:
    """What clients and members send, changed a little: in the frame, or in the body under a checksum that is right."""
    with _hung_up_on() as sent, Wire(address) as wire:
        wire.greet()
        for _ in range(count):
            wire.send(frame(_mutated(rng, cluster_id)))
            sent.frames += 1
    return sent.frames


def _mutated(rng: Random, cluster_id: int) -> bytes:
    magic, kinds = rng.choice(((CLIENT_MAGIC, 9), (CLIENT_MAGIC, 9), (PEER_MAGIC, 4), (SNAPSHOT_MAGIC, 4)))
    body = rng.choice(_BODIES)(rng)
    if rng.random() < 0.5 and body:
        # Not in the number of the session, which stays one that nobody has.
        place = rng.randrange(len(body))
        if not 8 <= place < 16:
            body = body[:place] + rng.randbytes(1) + body[place + 1 :]
    kind = rng.randint(0, kinds + 1)
    # A client is sender 0; incarnation 0 is older than that of any member, whom nobody is to be taken for.
    sender = 0 if magic == CLIENT_MAGIC and rng.random() < 0.9 else rng.randrange(4)
    whole = encode_envelope(magic, Envelope(kind, cluster_id, rng.randrange(4), sender, 0), body)
    change = rng.randrange(4)
    if change == 0:
        place = rng.randrange(len(whole))
        return whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :]
    if change == 1:
        return whole[: rng.randrange(len(whole))]
    return whole


def _far_commands(rng: Random) -> bytes:
    commands = [rng.randbytes(rng.randrange(40)) for _ in range(rng.randint(1, 5))]
    return client_frames.encode_commands(
        rng.getrandbits(64), session=FAR_SESSION, first_sequence=1, acked=0, commands=commands
    )


_BODIES: tuple[Callable[[Random], bytes], ...] = (
    _far_commands,
    lambda rng: client_frames.encode_hello(rng.getrandbits(64), "x" * rng.randrange(300)),
    lambda rng: client_frames.encode_close_session(1, FAR_SESSION),
    lambda rng: client_frames.encode_keep_alive(1, session=FAR_SESSION, acked=rng.getrandbits(64)),
    lambda rng: client_frames.encode_queries(1, level=Level.LINEARIZABLE, queries=[rng.randbytes(rng.randrange(40))]),
    lambda rng: client_frames.encode_admin(1, rng.choice(("status", "", "x" * 200)), [None, -1, b"\xff"]),
    # As long as a request number and a session that nobody has, then anything.
    lambda rng: struct.pack("<QQ", rng.getrandbits(64), FAR_SESSION) + rng.randbytes(rng.randrange(200)),
)


def odd_commands(address: str, rng: Random, count: int) -> int:
    """PING, PONG, SUBSCRIBE, ERROR and others in sizes that nobody sends, and READY twice."""
    with _hung_up_on() as sent, Wire(address) as wire:
        wire.greet()
        for _ in range(count):
            size = rng.choice((0, 1, 2, 3, 16, 17, 18, 19, 255, 300, 8_000))
            ttl = struct.pack(">H", rng.choice((0, 1, 10, 65_535)))
            odd = (
                command(b"PING", (ttl + rng.randbytes(size))[: rng.choice((0, 1, 2, 2 + size))]),
                command(b"PONG", rng.randbytes(size)),
                command(b"SUBSCRIBE", rng.randbytes(size)),
                command(b"CANCEL", rng.randbytes(size)),
                command(b"ERROR", bytes([rng.randrange(256)]) + rng.randbytes(size)),
                command(rng.randbytes(rng.randrange(20)), rng.randbytes(size)),
                frame(b"", command=True),
                frame(rng.randbytes(1) + b"PING", command=True),
                ready(rng.randbytes(rng.choice((0, 5, 255)))),
            )
            wire.send(rng.choice(odd))
            sent.frames += 1
    return sent.frames


def odd_identities(address: str, rng: Random, count: int) -> int:
    """Identities that are empty, short, as long as can be, like those a ROUTER makes itself, and taken by others."""
    identities = (b"", b"\x01", b"\0" + rng.randbytes(4), b"\0\0\0\0\1", rng.randbytes(5), b"x" * 255, b"\0" * 255)
    with _hung_up_on() as sent, Wire(address) as first, Wire(address) as second:
        identity = rng.choice(identities)
        first.greet(identity)
        second.greet(identity)
        for _ in range(count // 2):
            for wire in (first, second):
                wire.send(frame(rng.randbytes(rng.randrange(100))))
                sent.frames += 1
    return sent.frames


def old_greetings(address: str, rng: Random, count: int) -> int:
    """ZMTP 1.0 and 2.0, versions that do not exist, mechanisms that nobody speaks; frames right after them."""
    hellos = (
        b"\x01\x00",  # ZMTP 1.0, no identity
        b"\x06\x00alice",
        OLD_GREETING,
        SIGNATURE + b"\x01\x05" + frame(b"\0bob"),
        SIGNATURE + b"\x00\x05\x00\x00",
        SIGNATURE + b"\x01\x63" + frame(b"x"),
        greeting(minor=200) + ready(),
        greeting(mechanism=b"PLAIN") + command(b"HELLO", b"\x01u\x01p"),
        greeting(mechanism=b"CURVE") + command(b"HELLO", bytes(194)),
        greeting(mechanism=b"\xff" * 20),
        greeting(as_server=1) + ready(socket_type=b"REQ"),
        greeting() + ready(socket_type=b"NOBODY" * 40),
        greeting() + command(b"READY", b"\x0bSocket-Type\xff\xff\xff\xff"),
        greeting() + command(b"ERROR", b"\x05wrong"),
    )
    with _hung_up_on() as sent, Wire(address) as wire:
        hello = rng.choice(hellos)
        wire.send(hello)
        oldest = hello[0] < 0xFF
        for _ in range(count):
            body = rng.randbytes(rng.randrange(200))
            # In ZMTP 1.0 the length counts the flags, which come after it.
            wire.send(bytes([len(body) + 1, rng.randrange(2)]) + body if oldest else frame(body))
            sent.frames += 1
    return sent.frames


def resets_in_the_middle(address: str, rng: Random, count: int) -> int:
    """A reset in the middle of a frame or of the handshake, or after frames with a PING in the same packet."""
    with _hung_up_on() as sent, Wire(address) as wire:
        if rng.random() < 0.2:
            wire.send(greeting()[: rng.randrange(GREETING_BYTES)])
        else:
            wire.greet()
            frames = b"".join(frame(rng.randbytes(rng.randrange(300))) for _ in range(count))
            ping = command(b"PING", struct.pack(">H", rng.choice((0, 1, 65_535))) + rng.randbytes(rng.randrange(17)))
            half = bytes([_LONG]) + struct.pack(">Q", 100_000) + rng.randbytes(rng.randrange(50_000))
            wire.send(frames + rng.choice((ping, half, ping + half)))
            sent.frames += count + 1
        wire.reset()
    return sent.frames


def half_closed(address: str, rng: Random, count: int) -> int:
    """Frames, then the end of what we send, while the node may still send to us."""
    with _hung_up_on() as sent, Wire(address) as wire:
        wire.greet()
        for _ in range(count):
            wire.send(frame(rng.randbytes(20), more=True))
            sent.frames += 1
        wire.socket.shutdown(socket.SHUT_WR)
        wire.socket.settimeout(rng.random() / 4)
        while wire.socket.recv(4_096):
            pass
    return sent.frames


ZMTP_ATTACKS: tuple[Attack, ...] = (
    garbage_frames,
    mutated_frames,
    odd_commands,
    odd_identities,
    old_greetings,
    resets_in_the_middle,
    half_closed,
)
"""All that speak ZMTP, each in its own wrong way."""


# --- floods -----------------------------------------------------------------------------------------------------------


def multipart_bomb(address: str, sent_bytes_max: int, *, part_bytes: int = 200 * 1024, old: bool = False) -> int:
    """Parts of one message that never ends; returns how many bytes the node took before it hung up.

    With `old` in ZMTP 2.0, which has no handshake beyond the greeting, and of whose peers libzmq tells less.
    """
    part = frame(bytes(part_bytes), more=True)
    with _hung_up_on() as sent, Wire(address) as wire:
        if old:
            wire.send(OLD_GREETING)
        else:
            wire.greet()
        while sent.frames * part_bytes < sent_bytes_max:
            wire.send(part)
            sent.frames += 1
    return sent.frames * part_bytes


class SlowReader:
    """A client that asks for large answers and never reads one. `query` is a packed call, see `encode_call`."""

    def __init__(self, address: str, cluster_id: int, query: bytes) -> None:
        """Connect and greet. Raises OSError."""
        self._wire = Wire(address, receive_bytes=4_096)
        self._cluster_id = cluster_id
        self._query = query
        try:
            self._wire.greet()
            self._say(FrameKind.HELLO, client_frames.encode_hello(1, "1"))
        except OSError:
            self._wire.socket.close()
            raise

    def ask(self, frames: int, queries: int) -> int:
        """Ask `frames` times for `queries` answers each; returns how often that was possible."""
        body = client_frames.encode_queries(2, level=Level.LINEARIZABLE, queries=[self._query] * queries)
        with _hung_up_on() as sent:
            for _ in range(frames):
                self._say(FrameKind.QUERIES, body)
                sent.frames += 1
        return sent.frames

    def close(self) -> None:
        """Hang up."""
        self._wire.socket.close()

    def _say(self, kind: FrameKind, body: bytes) -> None:
        self._wire.send(frame(encode_envelope(CLIENT_MAGIC, Envelope(kind, self._cluster_id, 0, 0, 0), body)))
