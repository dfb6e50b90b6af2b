"""A replicated application that looks like an object: its commands and queries as methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftactors.app.application import Application, Method, methods_of
from raftactors.client.reply import Reply
from raftactors.codec.msgpack import pack, unpack
from raftactors.errors import ArgumentsError

Send = Callable[[bytes, str], Reply]
"""Send a packed call; the second argument is "command" or "query"."""


class Proxy:
    """Every command and query of an application class is a method here, and returns a `Reply` at once.

    Arguments are checked against the type hints before anything is sent: ArgumentsError. A name that is neither
    command nor query is an AttributeError.
    """

    def __init__(self, application: type[Application], send: Send) -> None:
        self._application = application
        self._methods = methods_of(application)
        self._send = send

    def __getattr__(self, name: str) -> Callable[..., Reply]:
        method = self._methods.get(name)
        if method is None:
            offered = ", ".join(sorted(self._methods))
            raise AttributeError(f"{self._application.__name__} has no command or query {name!r}; it has {offered}")
        call = _bind(method, self._send)
        setattr(self, name, call)  # Found without this method from now on.
        return call

    def __dir__(self) -> list[str]:
        return sorted(self._methods)


class BlockingProxy:
    """A `Proxy` whose methods wait and return the result itself, or raise the request's error."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._proxy, name)

        def call(*args: object, **kwargs: object) -> Any:
            return method(*args, **kwargs).get()

        setattr(self, name, call)
        return call

    def __dir__(self) -> list[str]:
        return dir(self._proxy)


def _bind(method: Method, send: Send) -> Callable[..., Reply]:
    name, kind, schema = method.name, method.kind, method.schema

    def call(*args: object, **kwargs: object) -> Reply:
        packed = pack((name, args, kwargs))
        try:
            schema.bind(list(args), kwargs)
        except ArgumentsError:
            # Tuples travel as arrays, so what counts is the form in which the arguments arrive.
            _, wire_args, wire_kwargs = unpack(packed, bytes_max=len(packed))
            schema.bind(wire_args, wire_kwargs)
        return send(packed, kind)

    call.__name__, call.__doc__ = name, method.function.__doc__
    return call
