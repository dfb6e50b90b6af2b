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
    zmq.HANDSHAKE_IVL: 2_000,
    zmq.HEARTBEAT_IVL: 500,
    zmq.HEARTBEAT_TIMEOUT: 1_500,
    zmq.HEARTBEAT_TTL: 2_000,
}
CONNECTING = {zmq.IMMEDIATE: 1, zmq.CONNECT_TIMEOUT: 1_000, zmq.RECONNECT_IVL: 50, zmq.RECONNECT_IVL_MAX: 1_000}
PEER_FRAME, CLIENT_FRAME = LIMITS.peer_frame_bytes_max, LIMITS.client_frame_bytes_max


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (zmq.ROUTER, peer_listener_options, {zmq.MAXMSGSIZE: PEER_FRAME, zmq.RCVHWM: 7, zmq.SNDHWM: 1}),
        (zmq.DEALER, peer_link_options, CONNECTING | {zmq.MAXMSGSIZE: 1024, zmq.RCVHWM: 1, zmq.SNDHWM: 7}),
        (zmq.ROUTER, client_endpoint_options, {zmq.MAXMSGSIZE: CLIENT_FRAME, zmq.RCVHWM: 9, zmq.SNDHWM: 9}),
        (zmq.DEALER, client_socket_options, CONNECTING | {zmq.MAXMSGSIZE: CLIENT_FRAME, zmq.RCVHWM: 9, zmq.SNDHWM: 9}),
    ],
)
def test_every_socket_is_bounded_and_ends_at_once(
    context: zmq.Context[Any], kind: int, options: Callable[[Limits], dict[int, int]], expected: dict[int, int]
) -> None:
    with open_socket(context, kind, options(LIMITS)) as socket:
        wanted = EVERYWHERE | expected
        assert {option: socket.getsockopt(option) for option in wanted} == wanted
