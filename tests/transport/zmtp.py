"""A stranger that speaks ZMTP 3.1 byte by byte, to say what libzmq's own sockets never would."""

from __future__ import annotations

import contextlib
import socket
import struct

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
MORE, LONG, COMMAND = 1, 2, 4


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame with its head."""
    if len(body) > 255 or flags & LONG:
        return bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


def ping(ttl_ds: int = 10, context: bytes = b"") -> bytes:
    """A PING with its time to live in tenths of a second."""
    return frame(b"\x04PING" + struct.pack(">H", ttl_ds) + context, COMMAND)


def ready(identity: bytes = b"") -> bytes:
    """The READY of a DEALER."""
    properties = {b"Socket-Type": b"DEALER", b"Identity": identity}
    body = b"\x05READY"
    for name, value in properties.items():
        body += bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
    return frame(body, COMMAND)


class Stranger:
    """A connection to `host:port`, with the handshake done unless `greets` is False."""

    def __init__(self, address: str, *, greets: bool = True, identity: bytes = b"") -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.is_cut = False
        if greets:
            try:
                self._shake_hands(identity)
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _shake_hands(self, identity: bytes) -> None:
        self.socket.sendall(GREETING + ready(identity))
        got = b""
        while len(got) < 64 + len(ready()):
            chunk = self.socket.recv(4096)
            if not chunk:
                raise ConnectionResetError("the listener ended the handshake")
            got += chunk

    def send(self, content: bytes) -> bool:
        """Send all of it; False when the connection was ended. Raises TimeoutError when it neither goes on nor ends."""
        try:
            self.socket.sendall(content)
        except ConnectionError:
            self.is_cut = True
        return not self.is_cut

    def ended(self, timeout_s: float = 10) -> bool:
        """Read until the other side ends the connection; False if it does not in time."""
        self.socket.settimeout(timeout_s)
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    if not self.socket.recv(65_536):
                        break
                except TimeoutError:
                    return False
        return True

    def reset(self) -> None:
        """End the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
