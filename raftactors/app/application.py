"""What an application author writes: a plain class whose methods are commands and queries."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from raftactors.app.schema import Schema, compile_schema
from raftactors.errors import ApplicationStateError, ConfigError

_F = TypeVar("_F", bound=Callable[..., Any])
_MARK = "__raftactors_kind__"
MethodKind = Literal["command", "query"]


def command(method: _F) -> _F:
    """Mark a method that may change the state. It goes through the log and runs on every replica.

    It must be deterministic: no clock, no chance, no input or output except through its `Context`.
    """
    return _mark(method, "command")


def query(method: _F) -> _F:
    """Mark a method that only reads. It runs on one replica and must leave the state as it is."""
    return _mark(method, "query")


class Method(NamedTuple):
    """One entry of a class's method table."""

    name: str
    kind: MethodKind
    function: Callable[..., object]
    schema: Schema


class Application:
    """Base of a replicated state machine: subclass it, mark methods with `@command` and `@query`.

    It is a plain class: `Bank().deposit("ann", 5)` works without any cluster. A node makes it without arguments.
    What a method raises goes back to the caller as ApplicationError and stays with the state that it left behind.
    """

    reserved_names: ClassVar[frozenset[str]] = frozenset({"snapshot", "restore", "readable_state", "reserved_names"})
    """What no command or query may be called, because the node calls it."""

    def snapshot(self) -> object:
        """The whole state as one value of None, bool, int, float, str, bytes, list and dict.

        By default the instance's attributes. They must be of exactly these types: a tuple, set or subclass would come
        back as something else on the replicas that restore it, so it is refused with ApplicationStateError.
        """
        return vars(self)

    def restore(self, state: Any) -> None:
        """Become what `snapshot` described. Called on a fresh instance or on one with another state."""
        if type(state) is not dict or not all(type(name) is str for name in state):
            raise ApplicationStateError(
                f"{type(self).__name__} has no restore() and the snapshot is no dict of attributes; "
                "was it written by a class with a snapshot() of its own?"
            )
        attributes = vars(self)
        attributes.clear()
        attributes.update(state)

    def readable_state(self) -> object:
        """The state as people want to compare it, of the same types as a snapshot; `raftactors replay` shows it.

        By default the snapshot itself.
        """
        return self.snapshot()


_tables: WeakKeyDictionary[type[Application], Mapping[str, Method]] = WeakKeyDictionary()


def methods_of(application: type[Application]) -> Mapping[str, Method]:
    """The commands and queries of a class by name, inherited ones included.

    Raises ConfigError for methods that cannot be called from outside; the text names the method and the way out.
    """
    table = _tables.get(application)
    if table is None:
        table = _tables[application] = MappingProxyType(_collect(application))
    return table


def _collect(application: type[Application]) -> dict[str, Method]:
    if not issubclass(application, Application):
        raise ConfigError(f"{application.__qualname__} is no Application; derive it from raftactors.Application")
    table: dict[str, Method] = {}
    for base in reversed(application.__mro__):
        for name, attribute in vars(base).items():
            kind: MethodKind | None = getattr(attribute, _MARK, None) if isinstance(attribute, FunctionType) else None
            if kind is not None:
                table[name] = _method(base, name, kind, attribute, application.reserved_names)
            elif name in table:
                hidden = table[name].kind
                raise ConfigError(f"{base.__qualname__}.{name} overrides a {hidden}; decorate it with @{hidden} too")
    return table


def _method(owner: type, name: str, kind: MethodKind, function: FunctionType, reserved_names: frozenset[str]) -> Method:
    if name.startswith("_") or name in reserved_names:
        raise ConfigError(f"{owner.__qualname__}.{name} cannot be a {kind}; give it a public name of its own")
    if name != function.__name__:
        raise ConfigError(
            f"{owner.__qualname__}.{name} is the {kind} {function.__name__} again; define it under one name"
        )
    return Method(name, kind, function, compile_schema(owner.__qualname__, function))


def _mark(method: _F, kind: MethodKind) -> _F:
    if not inspect.isfunction(method):
        raise ConfigError(f"@{kind} stands directly above a plain method, not on {method!r}")
    if getattr(method, _MARK, kind) != kind:
        raise ConfigError(f"{method.__qualname__} is marked as command and as query; choose one")
    setattr(method, _MARK, kind)
    return method
