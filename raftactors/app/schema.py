"""Arguments checked against a method's type hints.

Hints are compiled once, at class check time, into `Checker`s. What msgpack can carry can be hinted: None, bool, int,
float (takes an int too), str, bytes, list, dict (with keys of those six), tuple (arrives as an array, is handed on as a
tuple), Literal, Optional, unions and Any. A parameter without a hint takes anything. bool is not an int here.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from raftactors.app.context import Context
from raftactors.errors import ArgumentsError, ConfigError

_SCALARS: dict[object, frozenset[type]] = {
    None: frozenset({type(None)}),
    type(None): frozenset({type(None)}),
    bool: frozenset({bool}),
    int: frozenset({int}),
    float: frozenset({float, int}),
    str: frozenset({str}),
    bytes: frozenset({bytes}),
}
_WIRE_TYPES = frozenset({type(None), bool, int, float, str, bytes, list, dict})
_SUPPORTED = "None, bool, int, float, str, bytes, list[...], dict[..., ...], tuple[...], Literal, unions and Any"


class Mismatch(Exception):
    """A value does not fit its hint; the text says what was wanted and what came."""


class Checker(NamedTuple):
    """A compiled hint.

    A value whose exact type is in `direct` fits as it is. Any other goes through `convert`, which returns what the
    method gets or raises Mismatch; None means that nothing else fits.
    """

    hint: str
    direct: frozenset[type]
    convert: Callable[[object], object] | None

    def check(self, value: object) -> object:
        """Return the value as the method gets it. Raises Mismatch."""
        if type(value) in self.direct:
            return value
        if self.convert is None:
            raise Mismatch(f"must be {self.hint}, not {type(value).__name__}")
        return self.convert(value)


class Parameter(NamedTuple):
    """One parameter that the caller fills."""

    name: str
    checker: Checker
    required: bool
    positional: bool


class Schema:
    """The compiled signature of one method without `self` and without its Context."""

    __slots__ = ("_by_name", "_context_at", "_direct", "_positional", "_required", "context", "method", "parameters")

    def __init__(self, method: str, parameters: Sequence[Parameter], *, context: str | None, context_at: int) -> None:
        self.method = method
        self.parameters = tuple(parameters)
        self.context = context
        """The name of the parameter that takes the Context, None when the method has none."""
        self._context_at = context_at
        self._positional = [parameter for parameter in parameters if parameter.positional]
        self._by_name = {parameter.name: parameter for parameter in parameters}
        self._required = [parameter.name for parameter in parameters if parameter.required]
        # The common call names every parameter by its place; then a type look-up each is the whole check.
        keyword_only = len(self._positional) != len(parameters)
        self._direct = None if keyword_only else [parameter.checker.direct for parameter in parameters]

    def bind(self, args: list[object], kwargs: dict[str, object]) -> tuple[list[object], dict[str, object]]:
        """Check a call's arguments; returns them as the method takes them. Raises ArgumentsError."""
        direct = self._direct
        if direct is not None and not kwargs and len(args) == len(direct):
            for value, accepted in zip(args, direct, strict=True):
                if type(value) not in accepted:
                    break
            else:
                return args, kwargs
        return self._bind_slowly(args, kwargs)

    def insert_context(self, args: list[object], kwargs: dict[str, object], context: Context) -> None:
        """Put the Context in its place among bound arguments."""
        assert self.context is not None
        if 0 <= self._context_at <= len(args):
            args.insert(self._context_at, context)
        else:
            kwargs[self.context] = context

    def _bind_slowly(self, args: list[object], kwargs: dict[str, object]) -> tuple[list[object], dict[str, object]]:
        if len(args) > len(self._positional):
            raise ArgumentsError(f"{self.method}() takes {len(self._positional)} positional arguments, not {len(args)}")
        taken = self._positional[: len(args)]
        bound = [self._check(parameter, value) for parameter, value in zip(taken, args, strict=True)]
        named: dict[str, object] = {}
        given = {parameter.name for parameter in taken}
        for name, value in kwargs.items():
            parameter = self._by_name.get(name)
            if parameter is None:
                raise ArgumentsError(f"{self.method}() has no argument {name!r}")
            if name in given:
                raise ArgumentsError(f"{self.method}() got its argument {name!r} twice")
            named[name] = self._check(parameter, value)
        missing = [name for name in self._required if name not in given and name not in named]
        if missing:
            raise ArgumentsError(f"{self.method}() misses its argument {missing[0]!r}")
        return bound, named

    def _check(self, parameter: Parameter, value: object) -> object:
        try:
            return parameter.checker.check(value)
        except Mismatch as mismatch:
            raise ArgumentsError(f"{self.method}() argument {parameter.name!r} {mismatch}") from None


def compile_schema(owner: str, function: Callable[..., object]) -> Schema:
    """Compile a method's signature. Raises ConfigError naming class, method, parameter and the way out."""
    name = function.__name__
    where = f"{owner}.{name}()"
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{where} is a coroutine or a generator; write it as a plain method that returns its result")
    try:
        hints = typing.get_type_hints(function)
    except Exception as error:
        raise ConfigError(f"{where}: its type hints cannot be evaluated: {type(error).__name__}: {error}") from error
    declared = list(inspect.signature(function).parameters.values())
    if not declared or declared[0].kind not in _PLACES:
        raise ConfigError(f"{where} is no method; give it self")
    parameters: list[Parameter] = []
    context: str | None = None
    context_at = -1
    for place, parameter in enumerate(declared[1:]):
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise ConfigError(f"{where} takes *{parameter.name}; name every argument, or take a list or a dict")
        hint = hints.get(parameter.name, Any)
        if _is_context(hint, parameter):
            if context is not None:
                raise ConfigError(f"{where} has two parameters of type Context; keep one")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise ConfigError(f"{where} takes its Context by position only; move it behind the /")
            context, context_at = parameter.name, place if parameter.kind in _PLACES else -1
            continue
        checker = compile_hint(hint, f"{where} parameter {parameter.name!r}")
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is not parameter.empty:
            raise ConfigError(f"{where} parameter {parameter.name!r} is positional-only with a default; drop the /")
        positional = parameter.kind in _PLACES
        parameters.append(Parameter(parameter.name, checker, parameter.default is parameter.empty, positional))
    return Schema(name, parameters, context=context, context_at=context_at)


_PLACES = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})


def _is_context(hint: object, parameter: inspect.Parameter) -> bool:
    if hint is Context or Context in typing.get_args(hint):
        return True
    return parameter.name == "ctx" and parameter.annotation is parameter.empty


def compile_hint(hint: Any, where: str) -> Checker:
    """Compile one type hint; `where` begins the text of the ConfigError for one that msgpack cannot carry."""
    if hint is Any or hint is object:
        return Checker("anything", _WIRE_TYPES, None)
    if hint in (list, dict):
        return Checker(hint.__name__, frozenset({hint}), None)
    if hint is tuple:
        return Checker("array", frozenset(), _tuple_of_anything)
    scalar = _SCALARS.get(hint) if isinstance(hint, type) or hint is None else None
    if scalar is not None:
        return Checker("None" if hint in (None, type(None)) else hint.__name__, scalar, None)
    compile_origin = _ORIGINS.get(typing.get_origin(hint))
    if compile_origin is None:
        shown = hint.__name__ if isinstance(hint, type) else str(hint)
        raise ConfigError(f"{where} has the hint {shown}, which no message can carry; use {_SUPPORTED}")
    return compile_origin(typing.get_args(hint), where)


def _annotated(arguments: tuple[Any, ...], where: str) -> Checker:
    return compile_hint(arguments[0], where)


def _union(arguments: tuple[Any, ...], where: str) -> Checker:
    members = [compile_hint(argument, where) for argument in arguments]
    hint = " or ".join(member.hint for member in members)
    direct = frozenset[type]().union(*(member.direct for member in members))
    converting = [member for member in members if member.convert is not None]

    def convert(value: object) -> object:
        for member in converting:
            try:
                return member.check(value)
            except Mismatch:
                continue
        raise Mismatch(f"must be {hint}, not {type(value).__name__}")

    return Checker(hint, direct, convert if converting else None)


def _literal(values: tuple[object, ...], where: str) -> Checker:
    if not all(type(value) in {type(None), bool, int, str, bytes} for value in values):
        raise ConfigError(f"{where} has a Literal that no message can carry; use {_SUPPORTED}")
    hint = "one of " + ", ".join(map(repr, values))
    allowed = frozenset((type(value), value) for value in values)

    def convert(value: object) -> object:
        # A list or dict is in no set, so its type is looked at before its value.
        if isinstance(value, (list, dict)) or (type(value), value) not in allowed:
            raise Mismatch(f"must be {hint}")
        return value

    return Checker(hint, frozenset(), convert)


def _list(arguments: tuple[Any, ...], where: str) -> Checker:
    element = compile_hint(arguments[0], where)
    hint = f"list of {element.hint}"

    def convert(value: object) -> object:
        if type(value) is not list:
            raise Mismatch(f"must be {hint}, not {type(value).__name__}")
        return _elements(value, [element] * len(value))

    return Checker(hint, frozenset(), convert)


def _tuple_of_anything(value: object) -> object:
    if type(value) is not list:
        raise Mismatch(f"must be an array, not {type(value).__name__}")
    return tuple(value)


def _tuple(arguments: tuple[Any, ...], where: str) -> Checker:
    repeated = len(arguments) == 2 and arguments[1] is Ellipsis
    members = [compile_hint(argument, where) for argument in (arguments[:1] if repeated else arguments)]
    hint = "array of " + (members[0].hint if repeated else f"({', '.join(member.hint for member in members)})")

    def convert(value: object) -> object:
        if type(value) is not list:
            raise Mismatch(f"must be {hint}, not {type(value).__name__}")
        if not repeated and len(value) != len(members):
            raise Mismatch(f"must have {len(members)} elements, not {len(value)}")
        return tuple(_elements(value, members * len(value) if repeated else members))

    return Checker(hint, frozenset(), convert)


def _dict(arguments: tuple[Any, ...], where: str) -> Checker:
    key, element = (compile_hint(argument, where) for argument in arguments)
    if not _can_be_key(arguments[0]):
        raise ConfigError(
            f"{where} has dict keys of {key.hint}; in a message keys are None, bool, int, float, str or bytes"
        )
    hint = f"dict of {key.hint} to {element.hint}"

    def convert(value: object) -> object:
        if type(value) is not dict:
            raise Mismatch(f"must be {hint}, not {type(value).__name__}")
        for name in value:
            try:
                key.check(name)
            except Mismatch:
                raise Mismatch(f"must have keys of {key.hint}, not {type(name).__name__}") from None
        return dict(zip(value, _elements(value.values(), [element] * len(value), value), strict=True))

    return Checker(hint, frozenset(), convert)


def _can_be_key(hint: Any) -> bool:
    """Whether what fits the hint arrives as something that a dict can have for a key."""
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        return all(map(_can_be_key, typing.get_args(hint)))
    if origin is typing.Annotated:
        return _can_be_key(typing.get_args(hint)[0])
    return origin is typing.Literal or hint in {Any, object, *_SCALARS}


def _elements(
    values: Sequence[object] | typing.ValuesView[object],
    checkers: Sequence[Checker],
    names: Mapping[Any, object] | None = None,
) -> list[object]:
    """Check the elements of a container; the text of a Mismatch names the place."""
    places = names if names is not None else range(len(checkers))
    checked: list[object] = []
    for place, value, checker in zip(places, values, checkers, strict=True):
        try:
            checked.append(checker.check(value))
        except Mismatch as mismatch:
            raise Mismatch(f"[{place!r}] {mismatch}") from None
    return checked


_ORIGINS: dict[object, Callable[[tuple[Any, ...], str], Checker]] = {
    typing.Annotated: _annotated,
    typing.Union: _union,
    types.UnionType: _union,
    typing.Literal: _literal,
    list: _list,
    dict: _dict,
    tuple: _tuple,
}
