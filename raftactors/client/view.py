"""A client with options of its own for each request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from raftactors.app.application import Application
from raftactors.app.kv import KeyValue
from raftactors.client.proxy import BlockingProxy, Proxy
from raftactors.client.reply import Reply
from raftactors.codec.msgpack import pack


class Submit(Protocol):
    """Sends a packed call."""

    def __call__(self, packed: bytes, *, level: int = 0, timeout_ms: int | None = None) -> Reply:
        """Return its future."""
        ...


class ClientView:
    """What `Client.with_options` returns: the same client, whose requests have these options.

    Here everything that is given by name belongs to the method, whatever it is called.
    """

    def __init__(self, submit: Submit, wait: Callable[[Reply], Any], *, timeout_ms: int | None, level: int) -> None:
        self._submit = submit
        self._wait = wait
        self._timeout_ms = timeout_ms
        self._level = level

    def submit(self, method: str, /, *args: object, **kwargs: object) -> Reply:
        """Send a command and return its future. Raises as `Client.submit`."""
        return self._submit(pack((method, args, kwargs)), timeout_ms=self._timeout_ms)

    def submit_query(self, method: str, /, *args: object, **kwargs: object) -> Reply:
        """Send a query and return its future. Raises as `Client.submit_query`."""
        return self._submit(pack((method, args, kwargs)), level=self._level, timeout_ms=self._timeout_ms)

    def call(self, method: str, /, *args: object, **kwargs: object) -> Any:
        """Send a command, wait, and return its result. Raises as `Client.call`."""
        return self._wait(self.submit(method, *args, **kwargs))

    def query(self, method: str, /, *args: object, **kwargs: object) -> Any:
        """Send a query, wait, and return its result. Raises as `Client.query`."""
        return self._wait(self.submit_query(method, *args, **kwargs))

    def proxy(self, application: type[Application]) -> Proxy:
        """The application as an object whose methods return futures."""
        return Proxy(application, self._send_call)

    @property
    def kv(self) -> BlockingProxy:
        """The key-value battery, each method waiting for its result."""
        return BlockingProxy(self.proxy(KeyValue))

    def _send_call(self, packed: bytes, kind: str) -> Reply:
        return self._submit(packed, level=self._level if kind == "query" else 0, timeout_ms=self._timeout_ms)
