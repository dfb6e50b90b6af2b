"""What the kernel knows of a TCP connection that libzmq owns: asked, and shut down, at the connection's descriptor.

A descriptor is only borrowed here. Its number may mean another connection by the time it is used, so whoever keeps one
keeps the connection's `cookie` beside it: the kernel gives each socket one that is never used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
from typing import NamedTuple

_SO_COOKIE = 57
_COOKIE = struct.Struct("=Q")
_PROGRESS = struct.Struct("=120xQQ")  # In the kernel's tcp_info: tcpi_bytes_acked and tcpi_bytes_received.
_QUEUED = struct.Struct("=i")
_NO_LINGER = struct.pack("=ii", 1, 0)


class TcpProgress(NamedTuple):
    """Bytes since the connection was made: those sent that the other side's kernel has, and those that came here."""

    acked_bytes: int
    received_bytes: int


def cookie_of(descriptor: int) -> int:
    """The kernel's name of the socket. Raises OSError if the descriptor is no socket any more."""
    borrowed = _borrow(descriptor)
    try:
        return int(_COOKIE.unpack(borrowed.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE.size))[0])
    finally:
        borrowed.detach()


def progress_of(descriptor: int) -> TcpProgress:
    """How much has moved. Raises OSError if the descriptor is no TCP socket any more."""
    borrowed = _borrow(descriptor)
    try:
        info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _PROGRESS.size)
    finally:
        borrowed.detach()
    if len(info) < _PROGRESS.size:
        raise OSError("the kernel tells no byte counts of a TCP connection")
    return TcpProgress(*_PROGRESS.unpack(info))


def queued_bytes(descriptor: int) -> int:
    """Bytes that came and that nobody has read from the kernel yet. Raises OSError as `progress_of`."""
    return int(_QUEUED.unpack(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(_QUEUED.size)))[0])


def shut_down(descriptor: int, cookie: int) -> bool:
    """End the connection in both directions if the descriptor still is the one with `cookie`; False if not."""
    try:
        if cookie_of(descriptor) != cookie:
            return False
        borrowed = _borrow(descriptor)
        try:
            # With a reset, since one whose window is full would never hear of an end without.
            borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            borrowed.shutdown(socket.SHUT_RDWR)
        finally:
            borrowed.detach()
    except OSError:
        return False
    return True


def open_window(descriptor: int, cookie: int, window_bytes: int) -> None:
    """Let the other side have up to so much under way from now on, if the descriptor still is the one with `cookie`."""
    with contextlib.suppress(OSError):
        if cookie_of(descriptor) != cookie:
            return
        borrowed = _borrow(descriptor)
        try:
            borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
            borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, window_bytes)
        finally:
            borrowed.detach()


def _borrow(descriptor: int) -> socket.socket:
    """A socket object for one question; `detach` it, or the descriptor is closed with it."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
