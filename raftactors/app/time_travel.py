"""A log run through an application once more, command by command, with what each of them changed.

Nothing here reads a file: entries and snapshots are handed in. The replica that runs is a real one, session table
included, so a command that was sent twice is executed once here too and shows as answered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgpack  # type: ignore[import-untyped]  # it ships no type information

from raftactors.app.application import Application
from raftactors.app.on_disk_host import make_host
from raftactors.app.sessions import Outcome
from raftactors.app.state_changes import Change, changes_between
from raftactors.codec import frames
from raftactors.codec.batch import Batch, decode_batch
from raftactors.codec.frames import Commands, FrameKind
from raftactors.codec.msgpack import unpack
from raftactors.codec.replies import RejectedReply, ResultsReply, ResultStatus, decode_reply
from raftactors.config import Limits
from raftactors.core.types import Entry, EntryType
from raftactors.errors import (
    ApplicationError,
    ApplicationStateError,
    ArgumentsError,
    InvariantViolation,
    RaftActorsError,
    RejectedError,
    UnknownMethodError,
    WireError,
)

_SESSION_KINDS = {
    FrameKind.OPEN_SESSION: "open session",
    FrameKind.CLOSE_SESSION: "close session",
    FrameKind.KEEP_ALIVE: "keep session alive",
}


class CommandRun(NamedTuple):
    """One command of an entry. `changes` is empty for one that was not executed now, such as a repeated one."""

    session: int
    sequence: int
    method: str
    args: list[Any]
    kwargs: dict[str, Any]
    executed: bool
    status: ResultStatus
    result: Any
    changes: tuple[Change, ...]


class Step(NamedTuple):
    """One entry: `kind` is `commands`, `membership` or `empty`; `notes` are what it holds beside commands."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    term: int
    kind: str
    timestamp_ms: int
    notes: tuple[str, ...]
    commands: tuple[CommandRun, ...]


class _Observer:
    """Notes what each command of an entry did."""

    def __init__(self, state: Callable[[], bytes]) -> None:
        self._state = state
        self._executed: dict[int, tuple[Change, ...]] = {}
        self._before: bytes | None = None
        self.runs: list[CommandRun] | None = None

    def run(self, command: memoryview, execute: Callable[[], Outcome]) -> Outcome:
        if self.runs is None:
            self._before = None
            return execute()
        before = self._state() if self._before is None else self._before
        outcome = execute()
        self._before = after = self._state()
        self._executed[id(command)] = () if before == after else changes_between(_unpacked(before), _unpacked(after))
        return outcome

    def frame(self, frame: Commands, outcomes: Sequence[Outcome]) -> None:
        if self.runs is None:
            return
        for position, (command, (status, content)) in enumerate(zip(frame.commands, outcomes, strict=True)):
            method, args, kwargs = _call(command)
            changes = self._executed.get(id(command))
            self.runs.append(
                CommandRun(
                    frame.session,
                    frame.first_sequence + position if frame.session else 0,
                    method,
                    args,
                    kwargs,
                    changes is not None,
                    ResultStatus(status),
                    _result(status, content),
                    changes or (),
                )
            )
        self._executed.clear()

    def forget(self) -> None:
        """The state was replaced."""
        self._before = None


class TimeTravel:
    """A replica of `application` that is moved along a log by hand.

    `limits` must be those of the node whose log it is. `folder` is where an application with data of its own may keep
    them; it must be empty. Raises ApplicationStateError as a node would.
    """

    def __init__(self, application: type[Application], *, limits: Limits, folder: Path) -> None:
        self._observer = _Observer(self._packed_state)
        # Node 0 took no request in, so the replica makes no replies.
        self._host = make_host(application(), folder=folder, limits=limits, node_id=0, observer=self._observer)

    @property
    def applied_index(self) -> int:
        """The index of the last entry that was run, or of the snapshot."""
        return self._host.applied_index

    @property
    def digest(self) -> int:
        """CRC32C over the log so far, as the node's status shows it."""
        return self._host.digest

    def restore(self, content: Iterable[bytes | memoryview]) -> None:
        """Go to where a snapshot was taken. Raises ApplicationStateError if it is not one of this application."""
        try:
            self._host.restore_from(content)
        except RaftActorsError:
            raise
        except Exception as error:
            raise ApplicationStateError(
                f"{type(self._host.application).__name__} cannot be restored from the snapshot: "
                f"{type(error).__name__}: {error}; is it the application that wrote it?"
            ) from error
        self._observer.forget()

    def skip(self, entry: Entry) -> None:
        """Run the next entry without looking. Raises as a node would: EntryUnknownError, ApplicationStateError."""
        self._observer.runs = None
        self._host.apply(entry, origin_incarnation=0)
        self._host.commit()

    def step(self, entry: Entry) -> Step:
        """Run the next entry and tell what it did."""
        runs: list[CommandRun] = []
        self._observer.runs = runs
        self._host.apply(entry, origin_incarnation=0)
        self._host.commit()
        self._observer.runs = None
        if entry.type is not EntryType.NORMAL:
            return Step(entry.index, entry.term, "membership", 0, (), ())
        if entry.data is None:
            return Step(entry.index, entry.term, "empty", 0, (), ())
        batch = decode_batch(entry.data)
        notes = _notes(entry.index, batch)
        return Step(entry.index, entry.term, "commands", batch.timestamp_ms, notes, tuple(runs))

    def query(self, method: str, args: Sequence[object]) -> Any:
        """Run a query on the state as it is now.

        Raises what a client would get: UnknownMethodError, ArgumentsError, ApplicationError, RejectedError.
        """
        body = frames.encode_queries(0, level=frames.Level.LINEARIZABLE, queries=[frames.encode_call(method, args)])
        reply = decode_reply(self._host.query(self.applied_index, frames.split_request(body)[1]))
        if isinstance(reply, RejectedReply):
            raise RejectedError(reply.text)
        if not isinstance(reply, ResultsReply):
            raise InvariantViolation(f"a query was answered with {reply!r}")
        ((status, content),) = reply.results
        result = _result(status, bytes(content))
        if status == ResultStatus.OK:
            return result
        if status == ResultStatus.APPLICATION_ERROR:
            raise ApplicationError(*result)
        raise (UnknownMethodError if status == ResultStatus.UNKNOWN_METHOD else ArgumentsError)(str(result))

    def state(self) -> Any:
        """A copy of the application's state in the form that it gives for reading."""
        return _unpacked(self._packed_state())

    def close(self) -> None:
        """Give back what the application holds."""
        self._host.close()

    def _packed_state(self) -> bytes:
        application = self._host.application
        try:
            return cast(bytes, msgpack.packb(application.readable_state(), strict_types=True))
        except Exception as error:
            raise ApplicationStateError(
                f"the state of {type(application).__name__} behind index {self.applied_index} cannot be shown: "
                f"{type(error).__name__}: {error}; let snapshot() or readable_state() return None, bool, int, float, "
                "str, bytes, list and dict"
            ) from error


def _notes(index: int, batch: Batch) -> tuple[str, ...]:
    """What the frames of a batch do that are no commands."""
    notes = []
    for position, (_, kind, body) in enumerate(batch.frames):
        try:
            if kind == FrameKind.OPEN_SESSION:
                frames.decode_open_session(body)
                session = index << 16 | position
            elif kind == FrameKind.CLOSE_SESSION:
                session = frames.decode_close_session(body)
            elif kind == FrameKind.KEEP_ALIVE:
                session = frames.decode_keep_alive(body).session
            else:
                frames.decode_commands(body)
                continue
            notes.append(f"{_SESSION_KINDS[FrameKind(kind)]} {session}")
        except WireError as error:
            notes.append(f"a frame that nobody can read ({error}), refused by every node")
    return tuple(notes)


def _call(command: memoryview) -> tuple[str, list[Any], dict[str, Any]]:
    """Method and arguments of a command; the bytes themselves for one that is no call."""
    try:
        method, args, kwargs = unpack(command, bytes_max=len(command))
        if type(method) is str and type(args) is list and type(kwargs) is dict:
            return method, args, kwargs
    except (WireError, TypeError, ValueError):
        pass
    return "?", [bytes(command)], {}


def _result(status: int, content: bytes) -> Any:
    if status in (ResultStatus.OK, ResultStatus.APPLICATION_ERROR):
        return unpack(content, bytes_max=len(content))
    return content.decode(errors="replace")


def _unpacked(state: bytes) -> Any:
    # Our own packing, of a state that may be of any size and have any scalar as a key.
    return msgpack.unpackb(state, raw=False, strict_map_key=False)
