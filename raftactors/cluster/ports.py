"""Ports that belong to a cluster for as long as it lives.

Asking the kernel for a free port, closing the socket and handing the number to a child is a race: somebody else may be
given the same port in between, or while the child is down. A held port stays bound here, with SO_REUSEADDR and without
listening. On Linux a second socket that sets SO_REUSEADDR as well, as libzmq does, may then bind the same address and
listen, again and again as children come and go; a third one may not while it listens; and neither `bind` to port 0 nor
`connect` is given a port that somebody holds bound.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from raftactors.cluster.forking import let_go_after_fork
from raftactors.errors import AddressInUseError, ConfigError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class HeldPort:
    """A bound, silent socket; its port is kept until `close`."""

    _socket: socket.socket
    host: str
    port: int

    @property
    def address(self) -> str:
        """The form used in configurations, `host:port`."""
        return f"{self.host}:{self.port}"

    def close(self) -> None:
        """Give the port back. May be called twice."""
        self._socket.close()

    let_go = close


def hold_port(port: int = 0, *, host: str = LOOPBACK) -> HeldPort:
    """Bind `host:port` and keep it; port 0 takes one that the kernel chooses.

    Raises AddressInUseError if somebody listens there, ConfigError for a number that is no port.
    """
    if not 0 <= port <= 65_535:
        raise ConfigError(f"port is {port}; it must be a whole number from 0 to 65535")
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, port))
    except OSError as error:
        holder.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(f"{host}:{port} is in use by another process; choose another port") from error
        if error.errno == errno.EACCES:
            raise ConfigError(f"{host}:{port} needs privileges; choose a port above 1023") from error
        raise
    held = HeldPort(holder, host, holder.getsockname()[1])
    let_go_after_fork(held)
    return held
