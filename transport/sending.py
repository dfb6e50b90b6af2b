"""Sending without ever waiting."""

from __future__ import annotations

from collections.abc import Sequence

import zmq


def send_now(socket: zmq.Socket[bytes], parts: Sequence[bytes]) -> bool:
    """Hand the parts of one message to the socket; False if there is no connection, or its queue is full.

    A send alone may find the queue full although the other side has read from it: libzmq takes up such news only about
    once a millisecond while it sends. Asking for the events takes them up at once, so a refusal is believed the second
    time. Raises ZMQError for everything else, EHOSTUNREACH of a ROUTER included.
    """
    try:
        socket.send_multipart(parts, zmq.DONTWAIT)
    except zmq.Again:
        socket.getsockopt(zmq.EVENTS)
        try:
            socket.send_multipart(parts, zmq.DONTWAIT)
        except zmq.Again:
            return False
    return True
