"""Where the supervisor's socket stands: in a folder of its own, of mode 0700, inside the data folder.

There nobody cleans it away, as happens under /tmp. A socket's path may have no more than 107 bytes and a data folder's
may, so the socket is named through a descriptor of its folder. Where the file system has no sockets, the folder is a
temporary one. The mode of the folder is what keeps other users out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

FOLDER_NAME = "control"
_NAME = "socket"
_WAITING_MAX = 16


class ControlSocket:
    """A listening socket at `path`, and its life as a file. `timeout_s` bounds each wait for a connection."""

    def __init__(self, data_folder: Path, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._guard = threading.Lock()
        self._is_removed = False
        try:
            self._folder = data_folder / FOLDER_NAME
            self._listen()
        except OSError:
            self._folder = Path(tempfile.mkdtemp(prefix="raftactors-"))
            try:
                self._listen()
            except BaseException:
                self._folder.rmdir()
                raise

    @property
    def path(self) -> str:
        """The socket's path, which may be too long to be bound or connected as it is; see `connect`."""
        return str(self._folder / _NAME)

    def keep(self) -> None:
        """Make the socket again if somebody has removed it, as far as the disk allows."""
        with self._guard, contextlib.suppress(OSError):
            if not self._is_removed and not self._is_there():
                old = self.listener
                self._listen()
                old.close()

    def remove(self) -> None:
        """Wake who waits for a connection, with an error, and remove the file. May be called twice."""
        with self._guard:
            if not self._is_removed:
                self._is_removed = True
                # Wakes `accept`, which closing the descriptor alone would not do.
                with contextlib.suppress(OSError):
                    self.listener.shutdown(socket.SHUT_RDWR)
                remove_socket(self.path)

    def _listen(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._folder.chmod(0o700)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short_path(self.path) as path:
                # Of a supervisor that was killed. The data folder is held, so nobody else has made it.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                listener.bind(path)
                self._identity = os.stat(path)
            listener.listen(_WAITING_MAX)
            listener.settimeout(self._timeout_s)
        except BaseException:
            listener.close()
            raise
        self.listener = listener

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), self._identity)
        except FileNotFoundError:
            return False


def connect(path: str) -> socket.socket:
    """A connection to the socket at `path`. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_path(path) as short:
            connection.connect(short)
    except BaseException:
        connection.close()
        raise
    return connection


def remove_socket(path: str) -> None:
    """Remove a socket and its folder if it is empty then.

    The path may come from a file, so only what can be nothing but a left socket is touched.
    """
    place = Path(path)
    with contextlib.suppress(OSError):
        if place.is_socket():
            place.unlink()
        if place.name == _NAME:
            place.parent.rmdir()


@contextlib.contextmanager
def _short_path(path: str) -> Iterator[str]:
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
