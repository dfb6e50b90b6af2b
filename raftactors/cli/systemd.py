"""Tells a service manager that started this process with `Type=notify` how it goes."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send a state such as `READY=1`. Nothing happens without NOTIFY_SOCKET, or if nobody listens there."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        try:
            # An abstract name begins with a zero byte, for which "@" is written.
            door.connect(b"\0" + os.fsencode(path[1:]) if path[0] == "@" else path)
            door.setblocking(False)
            door.send(state.encode())
        except OSError:
            return  # The node serves whether or not somebody wants to know.
