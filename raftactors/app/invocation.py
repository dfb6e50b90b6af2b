"""One command or query, from its bytes to the bytes of its result. Deterministic, and it never raises for its caller.

Texts that travel back are cached by sessions, so they say the same on every replica: no text of a library, no address
of an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from raftactors.app.application import Application, MethodKind, methods_of
from raftactors.app.context import Context
from raftactors.app.on_disk import OnDiskApplication
from raftactors.app.schema import Schema
from raftactors.app.sessions import Outcome
from raftactors.codec.msgpack import MALFORMED, pack, pack_readable, unpack
from raftactors.codec.replies import RESULTS_OVERHEAD_BYTES, ResultStatus
from raftactors.codec.uncarriable import type_name, what_is_uncarriable
from raftactors.config import Limits
from raftactors.errors import ApplicationStateError, ArgumentsError, WireError

RESULT_OVERHEAD_BYTES = 4_096
"""A result may be this much larger than a command, so that what one command stored another can return."""

REPLY_OVERHEAD_BYTES = 1_024
"""What is kept free for the frame around one reply."""

ERROR_TEXT_MAX = 1_000
ERROR_BYTES_MAX = 2_000
"""How long the text of an error may be in characters, and in bytes once it is encoded; what is over is cut off."""

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}")
_OK = int(ResultStatus.OK)


class _Target(NamedTuple):
    call: Callable[..., object]
    schema: Schema


class Invoker:
    """Calls the methods of one kind of one application."""

    def __init__(self, application: Application, kind: MethodKind, *, limits: Limits) -> None:
        table = methods_of(type(application))
        self._owner = type(application).__name__
        self._kind = kind
        self._other_kind = frozenset(method.name for method in table.values() if method.kind != kind)
        self._targets = {
            method.name: _Target(method.function.__get__(application), method.schema)
            for method in table.values()
            if method.kind == kind
        }
        self._is_store_error = application.is_store_error if isinstance(application, OnDiskApplication) else None
        self._call_bytes_max = limits.command_bytes_max
        # What a method gives must also fit the frame that takes it to the client.
        frame_room = limits.client_frame_bytes_max - REPLY_OVERHEAD_BYTES - RESULTS_OVERHEAD_BYTES
        self._result_bytes_max = min(limits.command_bytes_max + RESULT_OVERHEAD_BYTES, frame_room)
        self._took_effect = "; the command took effect, only its result is lost" if kind == "command" else ""

    def invoke(self, call: memoryview, context: Callable[[], Context]) -> Outcome:
        """Run one call; `context` makes the Context for a method that wants it."""
        try:
            name, args, kwargs = unpack(call, bytes_max=self._call_bytes_max)
            target = self._targets.get(name)
            if type(args) is not list or type(kwargs) is not dict:
                raise ValueError
        except WireError as error:
            why = error.reason if error.reason == MALFORMED else str(error)
            return ResultStatus.ARGUMENTS, _cut(f"the {self._kind} is not decodable: {why}")
        except (TypeError, ValueError):
            # Not three parts, a name that is no str, or parts of other types.
            return ResultStatus.ARGUMENTS, f"a {self._kind} is [method, [args], {{kwargs}}]".encode()
        if target is None:
            return ResultStatus.UNKNOWN_METHOD, _cut(self._unknown(name))
        try:
            args, kwargs = target.schema.bind(args, kwargs)
        except ArgumentsError as error:
            return ResultStatus.ARGUMENTS, _cut(str(error))
        if target.schema.context is not None:
            target.schema.insert_context(args, kwargs, context())
        try:
            result = target.call(*args, **kwargs)
        except MemoryError:
            raise  # Other replicas may have had the memory; this one must not go on with another state.
        except Exception as error:
            if self._is_store_error is not None and self._is_store_error(error):
                raise ApplicationStateError(
                    f"{self._owner}.{name}() met a failure of its store: {type(error).__name__}: {_text_of(error)}; "
                    "repair the cause and start the node again"
                ) from error
            return self._failure(type_name(error), _text_of(error))
        return self._pack(name, result)

    def _pack(self, name: str, result: object) -> Outcome:
        """The result as its caller will be able to read it; whatever it is not is refused before it counts as one."""
        try:
            content = pack_readable(result)
        except MemoryError:
            raise  # As in the method itself.
        except Exception:  # noqa: BLE001  # packing may run code of the result's own class
            return self._refuse(f"the result of {name}() holds {what_is_uncarriable(result)}")
        if len(content) > self._result_bytes_max:
            size = f"the result of {name}() has {len(content)} bytes, at most {self._result_bytes_max}"
            return self._refuse(f"{size}; return less, or in parts")
        return _OK, content

    def _refuse(self, what: str) -> Outcome:
        return self._failure("ResultError", what + self._took_effect)

    def _failure(self, kind: str, text: str) -> Outcome:
        text = _ADDRESS.sub("0x...", str.__getitem__(text, slice(ERROR_TEXT_MAX)))
        return ResultStatus.APPLICATION_ERROR, pack([_cut(kind).decode(), _cut(text).decode()])

    def _unknown(self, name: object) -> str:
        if name in self._other_kind:
            other = "query" if self._kind == "command" else "command"
            return f"{self._owner}.{name}() is a {other}; send it as one"
        shown = name[:100] if isinstance(name, str) else type(name).__name__
        return f"{self._owner} has no {self._kind} {shown!r}; it has {', '.join(sorted(self._targets)) or 'none'}"


def _cut(text: str) -> bytes:
    """Text of an error as it is sent and kept: of bounded length, whoever it comes from."""
    content = text[:ERROR_TEXT_MAX].encode(errors="replace")
    return content[:ERROR_BYTES_MAX].decode(errors="ignore").encode()


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except MemoryError:
        raise  # As in the method itself.
    except Exception:  # noqa: BLE001  # the author's __str__ may raise anything
        return "(the text of the exception cannot be made)"
