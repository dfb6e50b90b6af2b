"""A send that is refused is tried again once libzmq has heard what the other side has read, and then given up."""

from __future__ import annotations

from typing import Any, cast

import pytest
import zmq

from raftactors.transport.sending import send_now


class ThrottledSocket:
    """Refuses until it is asked for its events, as libzmq does between two looks at its commands; then has `room`."""

    def __init__(self, *, room: int) -> None:
        self.sent: list[tuple[bytes, ...]] = []
        self._room_known = 0
        self._room = room

    def send_multipart(self, parts: tuple[bytes, ...], flags: int) -> None:
        assert flags == zmq.DONTWAIT
        if self._room_known == 0:
            raise zmq.Again
        self._room_known -= 1
        self._room -= 1
        self.sent.append(parts)

    def getsockopt(self, option: int) -> int:
        assert option == zmq.EVENTS
        self._room_known = self._room
        return zmq.POLLOUT if self._room else 0


@pytest.mark.parametrize("room", [0, 1, 3])
def test_only_a_queue_that_is_full_refuses(room: int) -> None:
    throttled = ThrottledSocket(room=room)
    outcomes = [send_now(cast("zmq.Socket[bytes]", cast(Any, throttled)), (b"one", b"two")) for _ in range(room + 2)]
    assert outcomes == [True] * room + [False] * 2
    assert throttled.sent == [(b"one", b"two")] * room
