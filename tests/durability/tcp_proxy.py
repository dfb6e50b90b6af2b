"""A TCP proxy in front of some addresses that can fall silent: hold what comes without a word, or reset."""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self

BUFFER_BYTES_MAX = 256 * 1024
CONNECT_TIMEOUT_S = 1.0
_RESET = struct.pack("ii", 1, 0)


class Silence(Enum):
    """What becomes of connections while they are silent."""

    HOLD = auto()
    """They stand, and nothing passes; new ones are not taken."""
    RESET = auto()
    """They are reset, new ones as well."""


@dataclass(slots=True, eq=False)
class _Pair:
    """One connection through the proxy, and what has come from one side and not left to the other."""

    target: int
    source_port: int
    near: socket.socket
    far: socket.socket
    outward: bytearray = field(default_factory=bytearray)
    homeward: bytearray = field(default_factory=bytearray)
    is_held: bool = False

    def reset(self) -> None:
        """End both halves with RST."""
        for end in (self.near, self.far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()


class Proxy(threading.Thread):
    """Listens on an address of its own for each of `targets`, `host:port` by node id; `with` starts and ends it."""

    def __init__(self, targets: Mapping[int, str]) -> None:
        super().__init__(name="proxy", daemon=True)
        self._targets = dict(targets)
        self._listeners = {node_id: socket.create_server(("127.0.0.1", 0)) for node_id in targets}
        self.addresses = {
            node_id: f"127.0.0.1:{listener.getsockname()[1]}" for node_id, listener in self._listeners.items()
        }
        self._pairs: list[_Pair] = []
        self._silence: Silence | None = None
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._is_closing = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._order(self._close)
        self.join()

    def silence(self, node_id: int, silence: Silence, source_ports: Collection[int]) -> None:
        """Let every connection to a node, and those from `source_ports` to others, fall silent.

        Nobody can connect meanwhile: the proxy does not know who it is that comes.
        """

        def begin() -> None:
            self._silence = silence
            for pair in list(self._pairs):
                if pair.target == node_id or pair.source_port in source_ports:
                    pair.is_held = True
                    if silence is Silence.RESET:
                        self._drop(pair)

        self._order(begin)

    def go_on(self) -> None:
        """Let everything pass again, also what was held."""

        def end() -> None:
            self._silence = None
            for pair in self._pairs:
                pair.is_held = False

        self._order(end)

    def run(self) -> None:
        while not self._is_closing:
            moving = [pair for pair in self._pairs if not pair.is_held]
            listeners = [] if self._silence is Silence.HOLD else [*self._listeners.values()]
            readers = [pair.near for pair in moving if len(pair.outward) < BUFFER_BYTES_MAX]
            readers += [pair.far for pair in moving if len(pair.homeward) < BUFFER_BYTES_MAX]
            writers = [pair.near for pair in moving if pair.homeward] + [pair.far for pair in moving if pair.outward]
            readable, writable, _ = select.select([self._woken, *listeners, *readers], writers, [])
            if self._woken in readable:
                self._woken.recv(4_096)
                while not self._orders.empty():
                    self._orders.get()()
                continue
            for node_id, listener in self._listeners.items():
                if listener in readable:
                    self._accept(node_id, listener)
            for pair in moving:
                self._pass(pair, readable, writable)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.put(order)
        self._wake.send(b"\0")

    def _accept(self, node_id: int, listener: socket.socket) -> None:
        near, (_, port) = listener.accept()
        host, _, target_port = self._targets[node_id].rpartition(":")
        far = socket.socket()
        pair = _Pair(node_id, port, near, far)
        try:
            far.settimeout(CONNECT_TIMEOUT_S)
            if self._silence is not None:
                raise ConnectionResetError
            far.connect((host, int(target_port)))
        except OSError:
            pair.reset()
            return
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.append(pair)

    def _pass(self, pair: _Pair, readable: list[socket.socket], writable: list[socket.socket]) -> None:
        try:
            for source, target, buffer in (
                (pair.near, pair.far, pair.outward),
                (pair.far, pair.near, pair.homeward),
            ):
                if source in readable:
                    content = source.recv(65_536)
                    if not content:
                        raise ConnectionResetError
                    buffer.extend(content)
                if target in writable or (source in readable and buffer):
                    with suppress(BlockingIOError):
                        del buffer[: target.send(buffer)]
        except OSError:
            self._drop(pair)

    def _drop(self, pair: _Pair) -> None:
        self._pairs.remove(pair)
        pair.reset()

    def _close(self) -> None:
        self._is_closing = True
        for pair in list(self._pairs):
            self._drop(pair)
        for end in (*self._listeners.values(), self._wake, self._woken):
            end.close()
