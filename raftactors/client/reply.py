"""The future of one request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from raftactors.client.forks import Lineage, forked_error
from raftactors.client.options import timeout_problem
from raftactors.codec.msgpack import unpack
from raftactors.codec.replies import ResultStatus
from raftactors.errors import (
    ApplicationError,
    ArgumentsError,
    ConfigError,
    RejectedError,
    RequestError,
    UnknownMethodError,
    WireError,
)

log = logging.getLogger(__name__)

_PENDING = -1
_FAILED = -2
_DOCUMENT = -3


class Reply:
    """What a request will get. Light: a value is decoded only when it is asked for, a lock exists only for a waiter.

    `index` is the log index of the command (for a query the index it was answered at), 0 while there is no result.
    """

    __slots__ = ("_callbacks", "_content", "_forks", "_status", "deadline_ms", "index", "level", "packed")

    def __init__(
        self, packed: bytes, deadline_ms: int, *, level: int = 0, on_done: Callable[[Reply], None] | None = None
    ) -> None:
        self.packed = packed
        self.deadline_ms = deadline_ms
        self.level = level
        self.index = 0
        self._forks = Lineage.forks
        self._status = _PENDING
        self._content: Any = None
        self._callbacks: list[Callable[[Reply], None]] = [] if on_done is None else [on_done]

    # --- for the caller ---

    def done(self) -> bool:
        """Whether a result or an error is there."""
        return self._status != _PENDING

    @property
    def ok(self) -> bool:
        """Whether the request is done and its method returned; looks at the status only, so it costs no decoding."""
        return self._status in {ResultStatus.OK, _DOCUMENT}

    def get(self, timeout_ms: int | None = None) -> Any:
        """Wait for the result and return it, or raise the error that the request got.

        Every request ends by its own deadline at the latest, so waiting without `timeout_ms` is bounded. Raises
        TimeoutError when `timeout_ms` is over first; the request goes on. Raises ConfigError for a `timeout_ms` that is
        no whole number from 0 to 2**31, and ForkedError in a child that inherited the request under way. Must not be
        called in a done-callback of a reply other than this one: callbacks run in the thread that would bring the
        result.
        """
        _check_timeout(timeout_ms)
        if self._status == _PENDING and not self.wait(timeout_ms):
            raise TimeoutError(f"no result after {timeout_ms} ms; the request is still under way")
        return self._value()

    def wait(self, timeout_ms: int | None = None) -> bool:
        """Wait for the end, whatever it is; False when `timeout_ms` is over first. Raises ConfigError and ForkedError.

        They mean the same as in `get`.
        """
        _check_timeout(timeout_ms)
        arrival = threading.Lock()
        arrival.acquire()
        self.add_done_callback(lambda _: arrival.release())
        return arrival.acquire(timeout=-1 if timeout_ms is None else timeout_ms / 1000)

    def error(self) -> RequestError | None:
        """The error of a request that is done, None if it has a result. Raises ValueError while it is under way."""
        if self._status == _PENDING:
            self._check_fork()
            raise ValueError("the request is still under way; wait for it with get() or a done-callback")
        try:
            self._value()
        except RequestError as error:
            return error
        return None

    def add_done_callback(self, callback: Callable[[Reply], None]) -> None:
        """Call `callback(reply)` once: in the client's own thread when the end comes, at once if it is there.

        A callback must be short and must not wait; what it raises is logged and goes no further. Raises ForkedError in
        a child that inherited the request under way.
        """
        if self._status == _PENDING:
            self._check_fork()
        self._callbacks.append(callback)
        if self._status != _PENDING:
            self._notify()

    # --- for the client's thread ---

    def complete(self, status: int, content: bytes | memoryview, index: int) -> None:
        """Record a result; one that comes after the end is ignored."""
        if self._status == _PENDING:
            self.index = index
            self._content = content
            self._status = status  # The last to be set: from here on a waiter may read the rest.
            self.packed = b""
            if self._callbacks:
                self._notify()

    def complete_document(self, document: object) -> None:
        """Record an operator's document."""
        self.complete(_DOCUMENT, document, 0)  # type: ignore[arg-type]  # a document is decoded already

    def fail(self, error: RequestError) -> None:
        """Record an error; one that comes after the end is ignored."""
        self.complete(_FAILED, error, 0)  # type: ignore[arg-type]  # an error stands for itself

    def _check_fork(self) -> None:
        if self._forks != Lineage.forks:
            raise forked_error()  # Who would bring the result is a thread of the parent.

    def _notify(self) -> None:
        callbacks = self._callbacks
        while callbacks:
            # The caller's thread may be here too; each callback is taken by one of the two.
            try:
                callback = callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self)
            except Exception:  # a caller's mistake must not end the thread of all requests
                log.exception("a done-callback failed")

    def _value(self) -> Any:
        status, content = self._status, self._content
        if status == _DOCUMENT:
            return content
        if status == _FAILED:
            raise content
        if status == ResultStatus.OK:
            return _unpack(content)
        if status == ResultStatus.APPLICATION_ERROR:
            raise _application_error(_unpack(content))
        text = str(content, "utf-8", "replace")
        raise (_REFUSALS.get(status, RejectedError))(text or ResultStatus(status).name.lower())


def _check_timeout(timeout_ms: int | None) -> None:
    problem = "" if timeout_ms is None else timeout_problem(timeout_ms, low=0)
    if problem:
        raise ConfigError(problem)


_REFUSALS: dict[int, type[RequestError]] = {
    ResultStatus.UNKNOWN_METHOD: UnknownMethodError,
    ResultStatus.ARGUMENTS: ArgumentsError,
}


def _unpack(content: bytes | memoryview) -> Any:
    try:
        return unpack(content, bytes_max=len(content))
    except WireError as error:
        # It was executed: the one thing that is lost is what it returned.
        raise ApplicationError(
            "ResultUnreadable", f"the method's result breaks the limits of a result: {error}"
        ) from None


def _application_error(document: object) -> ApplicationError:
    if isinstance(document, list) and len(document) == 2:
        return ApplicationError(str(document[0]), str(document[1]))
    return ApplicationError("Unknown", repr(document))
