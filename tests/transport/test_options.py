"""The options that libzmq would otherwise leave at unbounded or endless defaults are really set on the sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import zmq

from raftactors.config import Limits
from raftactors.transport.options import (
    client_endpoint_options,
    client_socket_options,
    open_socket,
    peer_link_options,
    peer_listener_options,
)

LIMITS = Limits(peer_queue_messages=7, client_queue_messages=9)
EVERYWHERE = {
    zmq.LINGER: 0,
    zmq.RCVHWM: 0,  # An input that stands still lets libzmq abort: test_library_assertions.py.
    zmq.HANDSHAKE_IVL: 2_000,
    zmq.HEARTBEAT_IVL: 0,
    zmq.TCP_KEEPALIVE: 1,
}
CONNECTING = {zmq.IMMEDIATE: 1, zmq.CONNECT_TIMEOUT: 1_000, zmq.RECONNECT_IVL: 50, zmq.RECONNECT_IVL_MAX: 500}
CLIENT = CONNECTING | {zmq.RECONNECT_IVL_MAX: 200}
PEER_FRAME, CLIENT_FRAME = LIMITS.peer_frame_bytes_max, LIMITS.client_frame_bytes_max


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (zmq.ROUTER, peer_listener_options, {zmq.MAXMSGSIZE: PEER_FRAME, zmq.SNDHWM: 1, zmq.TCP_MAXRT: 1_500}),
        (zmq.DEALER, peer_link_options, CONNECTING | {zmq.MAXMSGSIZE: 1024, zmq.SNDHWM: 7, zmq.TCP_MAXRT: 1_500}),
        (zmq.ROUTER, client_endpoint_options, {zmq.MAXMSGSIZE: CLIENT_FRAME, zmq.SNDHWM: 9, zmq.TCP_MAXRT: 5_000}),
        (
            zmq.DEALER,
            client_socket_options,
            CLIENT | {zmq.MAXMSGSIZE: CLIENT_FRAME, zmq.SNDHWM: 9, zmq.TCP_MAXRT: 1_500},
        ),
    ],
)
def test_every_socket_is_bounded_and_ends_at_once(
    context: zmq.Context[Any], kind: int, options: Callable[[Limits], dict[int, int]], expected: dict[int, int]
) -> None:
    with open_socket(context, kind, options(LIMITS)) as socket:
        wanted = EVERYWHERE | expected
        assert {option: socket.getsockopt(option) for option in wanted} == wanted
