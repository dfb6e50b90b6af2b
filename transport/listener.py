"""A bound ROUTER that takes one frame a message, and keeps the account of its connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import zmq

from raftactors.errors import WireError
from raftactors.transport.allowance import Allowance
from raftactors.transport.connections import Connection, ConnectionAccount, wire_bytes
from raftactors.transport.options import bind, open_socket


class Arrival(NamedTuple):
    """A frame, and the connection that brought it."""

    connection: Connection
    frame: bytes


class Listener:
    """Takes frames at `address`. Every method belongs to one thread, except those of `account` that are the guard's."""

    def __init__(
        self,
        context: zmq.Context[Any],
        *,
        name: str,
        address: str,
        options: Mapping[int, int],
        allowance: Allowance,
    ) -> None:
        """Bind at once. Raises AddressInUseError or ConfigError; `name` is the configuration field of the address."""
        self.socket = open_socket(context, zmq.ROUTER, options)
        self.account = ConnectionAccount(context, self.socket, allowance)
        try:
            self.address = bind(self.socket, name, address)
        except BaseException:
            self.account.close()
            self.socket.close()
            raise

    def take(self) -> Arrival | None:
        """The next frame, None when there is none. Never waits.

        Raises WireError for a message of several parts: no honest node or client sends one, so its connection is cut.
        """
        socket, account = self.socket, self.account
        try:
            route = socket.recv(zmq.DONTWAIT)
        except zmq.Again:
            account.emptied += 1
            return None
        account.taken += 1
        connection = account.find(route)
        if connection is None:
            # Only here, since the message object that tells the descriptor costs more than the bytes alone.
            part = socket.recv(copy=False)
            frame = part.bytes
            connection = self._meet(route, part)
        else:
            frame = socket.recv()
        connection.delivered_bytes += wire_bytes(len(frame))
        if socket.getsockopt(zmq.RCVMORE):
            self._skip_parts(connection)
            raise WireError("parts", "a message has one part")
        return Arrival(connection, frame)

    def close(self) -> None:
        """Drop what is unsent and release the socket; a second call does nothing."""
        if not self.socket.closed:
            self.account.close()
            self.socket.close()

    def _meet(self, route: bytes, part: zmq.Frame) -> Connection:
        try:
            descriptor = int(part.get("__fd"))
        except zmq.ZMQError as error:
            # Nothing tells which connection it is. What it brings counts as not delivered, so the guard soon ends it.
            while self.socket.getsockopt(zmq.RCVMORE):
                self.socket.recv()
            raise WireError("zmtp_version", "the connection speaks ZMTP 1.0 or 2.0") from error
        return self.account.meet(route, descriptor)

    def _skip_parts(self, connection: Connection) -> None:
        connection.cut()
        while self.socket.getsockopt(zmq.RCVMORE):
            connection.delivered_bytes += wire_bytes(len(self.socket.recv()))
