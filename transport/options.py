"""Every socket option, in one table a socket. libzmq's own defaults queue to dead peers, hang exits and bound nothing.

Not here yet, because there is nothing behind it: CURVE keys and ZAP_DOMAIN ("peers", "clients") with
ZAP_ENFORCE_DOMAIN. Until then frames are checked but not encrypted, a member is believed who it says it is, and the
endpoints belong on a network where only members and clients are. A domain that is enforced without a handler would
refuse every connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import zmq

from raftactors.config import Limits, split_address
from raftactors.errors import AddressInUseError, ConfigError

UNREAD_BYTES_MAX = 1024
"""The longest frame a socket takes in a direction that nobody uses: enough for ZeroMQ's own commands."""

SILENCE_MS_MAX = 1_500
"""After this long without a sign of life the other end of a connection between members counts as gone."""

CLIENT_SILENCE_MS_MAX = 5_000
"""The same for the connections of clients, which may stop for a moment without being taken for dead."""

STRANGER_WINDOW_BYTES = 1024
"""What a connection may have under way before it has delivered anything good; the kernel takes its least, about 2 KiB.

A bomb then comes no faster than the two sides can take turns, which is slower the busier the machine is. So however
late the guard is that ends it, little has come.
"""

# No RCVHWM: when libzmq stops reading a connection at its mark, a reset of that connection and a PING that waits in its
# buffer make it abort the process (`!_io_error`, libzmq issues 3937 and 4364), and so do its own heartbeats. The input
# never stands still without a mark; `connections` bounds what may wait. For the same reason no ZMTP heartbeats: the
# kernel finds a dead machine (keep-alive, and TCP_USER_TIMEOUT through MAXRT), the beats of `links` a silent process.
_EVERYWHERE: dict[int, int] = {
    zmq.LINGER: 0,
    zmq.RCVHWM: 0,
    zmq.HANDSHAKE_IVL: 2_000,
    zmq.HEARTBEAT_IVL: 0,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 1,
    zmq.TCP_KEEPALIVE_INTVL: 1,
    zmq.TCP_KEEPALIVE_CNT: 2,
    zmq.TCP_MAXRT: SILENCE_MS_MAX,
}
# IMMEDIATE keeps messages from being queued for a peer that is not there, and delivered stale when it comes.
_CONNECTING: dict[int, int] = {
    zmq.IMMEDIATE: 1,
    zmq.CONNECT_TIMEOUT: 1_000,
    zmq.RECONNECT_IVL: 50,
    zmq.RECONNECT_IVL_MAX: 500,
}


def peer_listener_options(limits: Limits) -> dict[int, int]:
    """The bound ROUTER that takes from peers and never answers on the same connection."""
    return _EVERYWHERE | {
        zmq.ROUTER_HANDOVER: 0,
        zmq.MAXMSGSIZE: limits.peer_frame_bytes_max,
        zmq.RCVBUF: STRANGER_WINDOW_BYTES,
        zmq.SNDHWM: 1,
    }


def peer_link_options(limits: Limits) -> dict[int, int]:
    """The DEALER to one peer, which only sends."""
    return _EVERYWHERE | _CONNECTING | {zmq.MAXMSGSIZE: UNREAD_BYTES_MAX, zmq.SNDHWM: limits.peer_queue_messages}


def client_endpoint_options(limits: Limits) -> dict[int, int]:
    """The bound ROUTER that takes from clients and answers them."""
    return _EVERYWHERE | {
        zmq.ROUTER_HANDOVER: 0,
        zmq.ROUTER_MANDATORY: 1,
        zmq.MAXMSGSIZE: limits.client_frame_bytes_max,
        zmq.RCVBUF: STRANGER_WINDOW_BYTES,
        zmq.SNDHWM: limits.client_queue_messages,
        zmq.TCP_MAXRT: CLIENT_SILENCE_MS_MAX,
    }


def client_socket_options(limits: Limits) -> dict[int, int]:
    """The DEALER of a client, which is to meet a restarted node within the shortest time that people wait for one."""
    return (
        _EVERYWHERE
        | _CONNECTING
        | {
            zmq.RECONNECT_IVL_MAX: 200,
            zmq.MAXMSGSIZE: limits.client_frame_bytes_max,
            zmq.SNDHWM: limits.client_queue_messages,
        }
    )


def open_socket(context: zmq.Context[Any], kind: int, options: Mapping[int, int]) -> zmq.Socket[bytes]:
    """Make a socket with its options set; they count only for what is bound or connected afterwards."""
    socket: zmq.Socket[bytes] = context.socket(kind)
    for option, value in options.items():
        socket.setsockopt(option, value)
    return socket


def bind(socket: zmq.Socket[bytes], name: str, address: str) -> str:
    """Bind `host:port` and return the address bound, which tells the port where the kernel chose it (port 0).

    Raises AddressInUseError or ConfigError; `name` is the configuration field. The socket stays the caller's to close.
    """
    try:
        socket.bind(_endpoint(socket, name, address))
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise AddressInUseError(
                f"{name} {address} is in use by another process; end that process, or choose another port"
            ) from error
        raise ConfigError(
            f"{name} is {address!r} and cannot be bound ({error}); use an address of this machine, or 0.0.0.0 for all"
        ) from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT).removeprefix("tcp://")


def connect(socket: zmq.Socket[bytes], name: str, address: str) -> None:
    """Start connecting to `host:port`, and go on trying. Raises ConfigError; the socket stays the caller's to close."""
    try:
        socket.connect(_endpoint(socket, name, address))
    except zmq.ZMQError as error:
        raise ConfigError(f"{name} is {address!r} and cannot be connected to ({error}); write HOST:PORT") from error


def _endpoint(socket: zmq.Socket[bytes], name: str, address: str) -> str:
    host, _ = split_address(name, address)
    if host.startswith("["):
        socket.setsockopt(zmq.IPV6, 1)
    return f"tcp://{address}"
