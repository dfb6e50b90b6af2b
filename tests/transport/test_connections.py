"""Strangers on real sockets: what they hold is counted to the byte, and whoever holds too much loses its connection."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from raftactors.config import Limits
from raftactors.errors import WireError
from raftactors.transport.allowance import Allowance, client_allowance
from raftactors.transport.connections import Connection
from raftactors.transport.listener import Listener
from raftactors.transport.options import STRANGER_WINDOW_BYTES, client_endpoint_options
from raftactors.transport.tcp import cookie_of, shut_down
from tests.transport.zmtp import MORE, Stranger, frame, ping

DEADLINE_S = 20.0
DEADLINE_MS = 20_000
LIMITS = Limits(client_connections_max=20)
PART = frame(bytes(60_000), MORE)


@pytest.fixture
def listener(context: zmq.Context[Any]) -> Iterator[Listener]:
    """One that takes clients, with room for 20."""
    made = listening(context, client_allowance(LIMITS))
    yield made
    made.close()


def listening(context: zmq.Context[Any], allowance: Allowance) -> Listener:
    options = client_endpoint_options(LIMITS)
    return Listener(context, name="address", address="127.0.0.1:0", options=options, allowance=allowance)


def take_all(listener: Listener) -> list[bytes]:
    frames: list[bytes] = []
    while True:
        try:
            arrival = listener.take()
        except WireError:
            continue
        if arrival is None:
            return frames
        frames.append(arrival.frame)


def watch(listener: Listener, done: Callable[[], bool], *, takes: bool = True) -> None:
    """Do the owner's and the guard's work in turn until `done`."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        if takes:
            take_all(listener)
        listener.account.look()
        assert time.monotonic() < deadline, (listener.account.count, listener.account.cuts)
        listener.account.events.socket.poll(1)


def meet(listener: Listener) -> Connection:
    """The connection of the next frame."""
    assert listener.socket.poll(DEADLINE_MS)
    arrival = listener.take()
    assert arrival is not None
    return arrival.connection


def test_a_message_without_an_end_is_cut_and_the_others_go_on(listener: Listener, closing: ExitStack) -> None:
    honest = closing.enter_context(Stranger(listener.address))
    for begins in (b"", frame(b"good") * 3):
        with Stranger(listener.address) as bomb:
            bomb.send(begins)
            sent = 0
            while bomb.send(PART):
                sent += len(PART)
                take_all(listener)
                listener.account.look()
                assert sent < 64 * 2**20, "nothing stops it"
    assert listener.account.cuts == {"unfinished": 2}
    honest.send(frame(b"still here"))
    assert listener.socket.poll(DEADLINE_MS)
    assert take_all(listener) == [b"still here"]


def test_tiny_parts_are_cut_before_they_grow_large_in_memory(listener: Listener) -> None:
    with Stranger(listener.address) as bomb:
        sent, parts = 0, frame(b"", MORE) * 1_000
        while bomb.send(parts):
            sent += len(parts)
            take_all(listener)
            listener.account.look()
        assert (
            sent < 4 * LIMITS.client_frame_bytes_max + 4 * 2**20
        )  # What lies in the two kernels' queues comes on top.
    assert listener.account.cuts["unfinished"] == 1


def test_many_who_hold_a_little_each_lose_their_connections_until_the_rest_fits(
    context: zmq.Context[Any], closing: ExitStack
) -> None:
    allowance = client_allowance(LIMITS)._replace(unfinished_bytes_max=600_000)
    listener = listening(context, allowance)
    closing.callback(listener.close)
    strangers = [closing.enter_context(Stranger(listener.address)) for _ in range(10)]
    for stranger in strangers:
        stranger.send(PART * 3)
    watch(listener, lambda: listener.account.cuts["unfinished_total"] >= 7)
    watch(listener, lambda: listener.account.count <= 3)
    assert listener.account.cuts.total() == 7


def test_what_waits_for_an_owner_that_is_busy_is_bounded_too(context: zmq.Context[Any], closing: ExitStack) -> None:
    allowance = client_allowance(LIMITS)._replace(backlog_bytes_max=1_000_000)
    listener = listening(context, allowance)
    closing.callback(listener.close)
    patient = closing.enter_context(Stranger(listener.address))
    patient.send(frame(bytes(200_000)) * 4)
    flood = closing.enter_context(Stranger(listener.address))
    while flood.send(frame(bytes(200_000))):
        listener.account.look()
    assert listener.account.cuts == {"backlog": 1}
    received: list[bytes] = []

    def all_came() -> bool:
        received.extend(take_all(listener))
        return len(received) >= 4

    watch(listener, all_came, takes=False)
    assert listener.account.count == 1, "the patient one has its connection still"


def test_honest_frames_of_every_size_leave_no_remainder(listener: Listener, closing: ExitStack) -> None:
    """The account is exact, so a connection may live for ever: nothing adds up."""
    stranger = closing.enter_context(Stranger(listener.address))
    for size in (0, 1, 254, 255, 256, 257, 8_190, 100_000):
        stranger.send(frame(bytes(size)) * 5)
    connection = meet(listener)
    watch(listener, lambda: connection.delivered_bytes >= 5 * (0 + 1 + 254 + 255 + 256 + 257 + 8_190 + 100_000))
    stranger.send(frame(b"last"))
    assert listener.socket.poll(DEADLINE_MS)
    take_all(listener)
    listener.account.look()
    held = [watched.holding.backlog_bytes for watched in listener.account._watched.values()]
    assert held[0] < 200, "greeting and READY"
    assert not listener.account.cuts


def test_strangers_make_room_and_those_who_deliver_stay(listener: Listener, closing: ExitStack) -> None:
    honest = [closing.enter_context(Stranger(listener.address)) for _ in range(8)]
    for one in honest:
        one.send(frame(b"hello"))
    watch(listener, lambda: len(listener.account._met) == 8)
    idle = [closing.enter_context(Stranger(listener.address)) for _ in range(60)]
    allowance = listener.account.allowance
    watch(listener, lambda: listener.account.cuts["too_many"] >= 60 - allowance.strangers_max)
    watch(listener, lambda: listener.account.count <= allowance.connections_max)
    assert len(listener.account._met) == 8
    assert idle[0].ended(), "the oldest stranger went"


def test_when_all_deliver_the_newest_goes(listener: Listener, closing: ExitStack) -> None:
    def delivering() -> Stranger:
        stranger = closing.enter_context(Stranger(listener.address))
        stranger.send(frame(b"hello"))
        known = len(listener.account._by_route)
        watch(listener, lambda: len(listener.account._by_route) > known or bool(listener.account.cuts))
        return stranger

    old = [delivering() for _ in range(20)]
    newest = delivering()
    assert newest.ended()
    watch(listener, lambda: listener.account.count == 20)
    assert not any(stranger.ended(0.01) for stranger in old)


def test_the_window_of_a_stranger_is_small_and_that_of_a_welcome_one_is_not(
    listener: Listener, closing: ExitStack
) -> None:
    def buffer_bytes(connection: Connection) -> int:
        borrowed = socket.socket(fileno=connection.descriptor)
        try:
            return borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        finally:
            borrowed.detach()

    stranger = closing.enter_context(Stranger(listener.address))
    stranger.send(frame(b"hello"))
    connection = meet(listener)
    assert buffer_bytes(connection) <= 4 * STRANGER_WINDOW_BYTES
    connection.welcome(64 * 1024)
    assert buffer_bytes(connection) >= 64 * 1024
    connection.welcome(1)
    assert buffer_bytes(connection) >= 64 * 1024, "the first welcome counts"
    stranger.send(frame(bytes(200_000)))
    watch(listener, lambda: connection.delivered_bytes > 200_000)


def test_a_peer_of_an_old_protocol_ends_nothing_but_its_own_connection(listener: Listener, closing: ExitStack) -> None:
    honest = closing.enter_context(Stranger(listener.address))
    # In ZMTP 1.0 the length counts the flags, which follow it; 2.0 has the frames of today.
    for greeting, message, much in (
        (b"\x01\x00", b"\x02\x01y\x02\x00z", b"\xfe\x00" + bytes(253)),
        (b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00", frame(b"y", MORE) + frame(b"z"), frame(bytes(253))),
    ):
        with Stranger(listener.address, greets=False) as old:
            old.send(greeting + message)
            with pytest.raises(WireError, match="zmtp_version"):
                while listener.take() is None:
                    assert listener.socket.poll(DEADLINE_MS)
            while old.send(much):
                take_all(listener)
                listener.account.look()
    assert listener.account.cuts.total() == 2
    honest.send(frame(b"still here"))
    assert listener.socket.poll(DEADLINE_MS)
    assert take_all(listener) == [b"still here"]


def test_unread_bytes_are_those_the_clients_kernel_does_not_have(listener: Listener, closing: ExitStack) -> None:
    stranger = closing.enter_context(Stranger(listener.address))
    stranger.send(frame(b"hello"))
    connection = meet(listener)
    assert connection.unread_bytes() == 0
    for _ in range(400):
        with contextlib.suppress(zmq.Again):
            listener.socket.send_multipart([connection.route, bytes(100_000)], zmq.DONTWAIT)
            connection.handed_bytes += 100_009
    assert connection.unread_bytes() > 1_000_000
    listener.account.look()
    assert connection.cut()
    watch(listener, lambda: listener.account.count == 0)
    assert connection.unread_bytes() == 0, "it has ended"
    assert not connection.cut()


def test_a_connection_that_ended_is_forgotten_once_its_frames_are_taken(listener: Listener) -> None:
    with Stranger(listener.address) as stranger:
        stranger.send(frame(b"one") + ping() + frame(b"two"))
        connection = meet(listener)
        watch(listener, lambda: listener.account.count == 1, takes=False)
    watch(listener, lambda: listener.account.count == 0, takes=False)
    assert take_all(listener) == [b"two"]
    assert listener.take() is None
    assert listener.account.find(connection.route) is None
    assert not listener.account._met


def test_a_descriptor_with_another_meaning_is_left_alone(closing: ExitStack, listener: Listener) -> None:
    stranger = closing.enter_context(Stranger(listener.address))
    descriptor = stranger.socket.fileno()
    assert not shut_down(descriptor, cookie_of(descriptor) + 1)
    assert stranger.send(frame(b"hello"))
    assert shut_down(descriptor, cookie_of(descriptor))
    with open("/dev/null") as file, pytest.raises(OSError, match="socket"):
        cookie_of(file.fileno())
