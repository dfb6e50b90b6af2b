"""The supervisor's door for other processes: JSON lines over a Unix socket.

Request `{"version": 1, "operation": NAME, "node": ID or null}`, reply `{"version": 1, "result": VALUE}` or
`{"version": 1, "error": {"kind": CLASS, "text": TEXT, "exit_code": CODE}}`; one request a connection.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raftactors import errors
from raftactors.cluster.control_socket import ControlSocket, connect
from raftactors.cluster.forking import let_go_after_fork
from raftactors.errors import ClusterUnreachableError, ConfigError, ExitCode, RaftActorsError

VERSION = 1
Handler = Callable[[str, int | None], object]
_REQUEST_BYTES_MAX = 4096
_REPLY_BYTES_MAX = 4 * 1024 * 1024
_REQUEST_TIMEOUT_S = 5.0
_LOOK_S = 1.0
"""Between two looks whether the socket is still where others look for it."""

_REMAKE_WAIT_S = 3.0
"""How long a request waits for a socket that the supervisor has to make again."""
_CONNECT_POLL_S = 0.05
_PLAIN_ERRORS: frozenset[type[RaftActorsError]] = frozenset(
    {
        errors.AddressInUseError,
        errors.ApplicationUnknownError,
        errors.ConfigDisagreesError,
        errors.ConfigError,
        errors.CorruptWalError,
        errors.DataLockedError,
        errors.ForeignDataError,
        errors.NotAMemberError,
        errors.StorageError,
    }
)
"""Errors that are made from their text alone; others come back as their common base."""


class NoControlError(ClusterUnreachableError):
    """Nobody listens at the control socket."""


class ControlServer:
    """Answers one connection after the other in a thread; the handler runs in that thread.

    The socket stands in `folder`; one that is removed is made again. An operation for which `closes_after` answers True
    is the last one: the door closes once its reply is out.
    """

    def __init__(
        self, handler: Handler, folder: Path, *, closes_after: Callable[[str], bool] = lambda operation: False
    ) -> None:
        self._handler = handler
        self._closes_after = closes_after
        self._socket = ControlSocket(folder, timeout_s=_LOOK_S)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="raftactors-control", daemon=True)
        let_go_after_fork(self)
        self._thread.start()

    @property
    def path(self) -> str:
        """Where others connect to."""
        return self._socket.path

    def close(self) -> None:
        """Stop answering and remove the socket. May be called twice, and from the handler."""
        self._is_closed = True
        self._socket.remove()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def let_go(self) -> None:
        """In a forked copy: the door is the original's, and there is no thread."""
        self._is_closed = True
        self._socket.listener.close()

    def _run(self) -> None:
        while not self._is_closed:
            try:
                connection, _ = self._socket.listener.accept()
            except TimeoutError:
                self._socket.keep()
            except OSError:
                if not self._is_closed:  # For example without a descriptor to spare; there may be one later.
                    time.sleep(_LOOK_S)
            else:
                with connection:
                    self._serve(connection)
        self._socket.listener.close()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_REQUEST_TIMEOUT_S)
        operation = ""
        try:
            operation, node_id = _parse_request(_read_line(connection, _REQUEST_BYTES_MAX))
            reply: dict[str, object] = {"result": self._handler(operation, node_id)}
        except RaftActorsError as error:
            reply = {"error": {"kind": type(error).__name__, "text": str(error), "exit_code": int(error.exit_code)}}
        except OSError as error:
            reply = {"error": {"kind": "OSError", "text": str(error), "exit_code": int(ExitCode.FAILURE)}}
        try:
            connection.sendall(json.dumps({"version": VERSION, **reply}).encode() + b"\n")
        except OSError:
            return
        finally:
            if "result" in reply and self._closes_after(operation):
                self.close()


def ask(path: str, operation: str, node_id: int | None = None, *, timeout_ms: int = 60_000) -> object:
    """Send one request to the supervisor listening at `path` and return its result.

    Raises the error of the supervisor by its class, NoControlError if nobody listens there for some seconds, or
    ClusterUnreachableError if nobody answers in time.
    """
    request = json.dumps({"version": VERSION, "operation": operation, "node": node_id}).encode() + b"\n"
    try:
        with _connect(path) as connection:
            connection.settimeout(timeout_ms / 1000)
            connection.sendall(request)
            reply = json.loads(_read_line(connection, _REPLY_BYTES_MAX))
    except (OSError, ValueError) as error:
        raise ClusterUnreachableError(
            f"the supervisor of the cluster does not answer ({error}); start it again with `raftactors up`"
        ) from error
    if not isinstance(reply, dict) or reply.get("version") != VERSION:
        raise ClusterUnreachableError("the supervisor speaks another version; use the raftactors that started it")
    if "error" in reply:
        raise _rebuild_error(reply["error"])
    return reply.get("result")


def _connect(path: str) -> socket.socket:
    deadline_s = time.monotonic() + _REMAKE_WAIT_S
    while True:
        try:
            return connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if time.monotonic() > deadline_s:
                raise NoControlError(
                    f"the supervisor of the cluster does not answer at {path} ({error.strerror}); "
                    "`raftactors down` ends it"
                ) from error
            time.sleep(_CONNECT_POLL_S)


def _parse_request(line: bytes) -> tuple[str, int | None]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the request is not a line of JSON: {error}") from error
    if not isinstance(request, dict) or request.get("version") != VERSION:
        raise ConfigError(f"the request is not of version {VERSION}; use the raftactors that started the cluster")
    operation, node_id = request.get("operation"), request.get("node")
    if not isinstance(operation, str) or not (node_id is None or type(node_id) is int):
        raise ConfigError("the request names no operation, or a node that is no number")
    return operation, node_id


def _read_line(connection: socket.socket, bytes_max: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = connection.recv(65_536)
        line += chunk
        if not chunk or len(line) > bytes_max:
            raise ConnectionError(f"the line ended early or has more than {bytes_max} bytes")
    return bytes(line)


def _rebuild_error(document: dict[str, Any]) -> RaftActorsError:
    text = str(document.get("text"))
    kind = getattr(errors, str(document.get("kind")), None)
    error = kind(text) if kind in _PLAIN_ERRORS else RaftActorsError(text)
    with contextlib.suppress(ValueError, TypeError):
        error.exit_code = ExitCode(document["exit_code"])
    return error
