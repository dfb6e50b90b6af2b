"""The exception tree: what a caller may catch, what is counted and dropped, what stops a process.

Three families. `RaftActorsError` and its subclasses are for callers. `WireError` is raised at the gate where bytes
of a peer or client enter, counted there and dropped. `InvariantViolation` means the program is wrong: it derives
from `BaseException` so that no `except Exception` hides it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

WAY_OUT_OF_DAMAGE = "stop the cluster, and `raftactors rebuild` makes this folder anew from the others (docs/damage.md)"
"""What an error text says about a data folder that cannot be believed any more."""


class ExitCode(IntEnum):
    """Exit codes of a node process and of the command line; each failure has its own."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CONFIG = 10
    APPLICATION_UNKNOWN = 11
    ADDRESS_IN_USE = 12
    DATA_FOREIGN = 13
    DATA_LOCKED = 14
    DATA_CORRUPT = 15
    DATA_UNREADABLE = 16
    DATA_TORN = 17
    NO_DATA_FOLDER = 18
    DATA_LOST = 19
    ACTOR_FAILED = 20
    ACTOR_HUNG = 21
    SYNC_FAILED = 22
    PARENT_DIED = 23
    INVARIANT = 24
    APPLICATION_FAILED = 25
    APPLICATION_MISMATCH = 26
    NOT_A_MEMBER = 27
    CONFIG_DISAGREES = 28
    CLUSTER_UNREACHABLE = 30
    COMMAND_REJECTED = 31
    COMMAND_UNKNOWN_OUTCOME = 32
    INDEX_UNKNOWN = 33
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class RaftActorsError(Exception):
    """Base of every error a caller may want to catch.

    `exit_code` is what a process ends with when nobody catches the error. An error survives a copy and a trip between
    processes with its text, arguments, attributes and notes; its cause and its traceback stay where it was raised.
    """

    exit_code = ExitCode.FAILURE

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...], dict[str, Any]]:
        # Made again without its constructor, whose parameters are not those that an exception keeps.
        return _remake, (type(self), *self.args), vars(self)


def _remake(kind: type[RaftActorsError], *args: object) -> RaftActorsError:
    return kind.__new__(kind, *args)


class ConfigError(RaftActorsError, ValueError):
    """A configuration value is out of its range; the text names the field, the value and the range."""

    exit_code = ExitCode.CONFIG


class ApplicationUnknownError(ConfigError):
    """`MODULE:CLASS` names no importable `Application`."""

    exit_code = ExitCode.APPLICATION_UNKNOWN


class ApplicationMismatchError(ConfigError):
    """The data folder is that of another application than the one named."""

    exit_code = ExitCode.APPLICATION_MISMATCH


class NotAMemberError(ConfigError):
    """The other members do not know this node's id: what it sends is dropped, and it could never serve."""

    exit_code = ExitCode.NOT_A_MEMBER


class ConfigDisagreesError(ConfigError):
    """The other members have another cluster id, other members or addresses, or another application."""

    exit_code = ExitCode.CONFIG_DISAGREES


class AddressInUseError(RaftActorsError):
    """Another process listens on the address."""

    exit_code = ExitCode.ADDRESS_IN_USE


class DescriptorsUsedUpError(RaftActorsError):
    """The process may open no more files and connections (RLIMIT_NOFILE), so a client cannot be made."""


# --- the core -------------------------------------------------------------------------------------------------


class ProposalDropped(RaftActorsError):
    """The proposal was not appended anywhere: it never happened, and may be offered again."""


class StepLocalMessageError(RaftActorsError):
    """A message kind that only the node itself may produce arrived from outside."""


class StepPeerNotFoundError(RaftActorsError):
    """A response came from a node that is not in the configuration."""


class ConfChangeError(RaftActorsError):
    """The membership change is impossible in the present configuration; nothing was changed."""


class LogStorageError(RaftActorsError):
    """Base of what the log storage answers when it cannot give what the core asks for."""


class CompactedError(LogStorageError):
    """The asked index lies before the first entry: a snapshot has replaced it."""


class UnavailableError(LogStorageError):
    """The asked index lies behind the last entry."""


class SnapshotOutOfDateError(LogStorageError):
    """The offered snapshot is older than the stored one."""


class SnapshotTemporarilyUnavailableError(LogStorageError):
    """No snapshot is ready now; the core asks again later."""


# --- the disk -------------------------------------------------------------------------------------------------


class StorageError(RaftActorsError):
    """Base of errors of the data folder."""

    exit_code = ExitCode.DATA_UNREADABLE


class DataLostError(StorageError):
    """The data folder is empty, or an old copy: the node has forgotten its vote and what it acknowledged."""

    exit_code = ExitCode.DATA_LOST


class NoDataFolderError(StorageError):
    """The folder is no data folder of a node."""

    exit_code = ExitCode.NO_DATA_FOLDER


class IndexUnknownError(StorageError):
    """The data folder does not hold the index that was asked for; the text says which ones it holds."""

    exit_code = ExitCode.INDEX_UNKNOWN


class DiskFullError(StorageError):
    """The disk has no room for the next segment. Nothing was written, and the log takes the batch when there is."""


class ForeignDataError(StorageError):
    """The data folder belongs to another cluster or node."""

    exit_code = ExitCode.DATA_FOREIGN


class DataLockedError(StorageError):
    """Another process has the data folder open."""

    exit_code = ExitCode.DATA_LOCKED


class CorruptWalError(StorageError):
    """Bytes that were durable once do not verify. The text names file, offset and index range."""

    exit_code = ExitCode.DATA_CORRUPT


class CorruptSnapshotError(StorageError):
    """A snapshot does not verify, or is not there although the log says so. The text names file and offset."""

    exit_code = ExitCode.DATA_CORRUPT


# --- the application ------------------------------------------------------------------------------------------


class EntryUnknownError(RaftActorsError):
    """A committed entry has a payload that this version cannot read; skipping it would make the replicas differ."""

    exit_code = ExitCode.APPLICATION_FAILED


class ApplicationStateError(RaftActorsError):
    """The application's state cannot be snapshotted, or does not fit what `restore` was given."""

    exit_code = ExitCode.APPLICATION_FAILED


# --- the wire -------------------------------------------------------------------------------------------------


class WireError(RaftActorsError):
    """A peer or client sent bytes or fields that break the protocol: count it by `reason` and drop it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


# --- the client -----------------------------------------------------------------------------------------------


class RequestError(RaftActorsError):
    """Base of the answers a request may get instead of a result.

    `retry_safe` says whether sending the same request again can execute it twice (False: it can).
    `leader_id` names the leader as far as the answering node knows, 0 if it knows none.
    """

    retry_safe = True

    def __init__(self, text: str, *, leader_id: int = 0) -> None:
        super().__init__(text)
        self.leader_id = leader_id


class RejectedError(RequestError):
    """The command never happened: it was refused before the log, or by the application's argument check."""

    exit_code = ExitCode.COMMAND_REJECTED


class UnknownMethodError(RejectedError):
    """The application has no such command or query."""


class ArgumentsError(RejectedError):
    """The arguments do not fit the method's type hints."""


class CommandTooLargeError(RejectedError):
    """The command exceeds `command_bytes_max`."""


class SessionExpiredError(RejectedError):
    """The session is gone; what it had in flight has an unknown outcome, what comes now is not executed."""

    retry_safe = False


class ForkedError(RejectedError):
    """The client, or the request, belongs to the parent of this forked process; nothing was sent from here."""


class OverloadedError(RejectedError):
    """A limit is reached; try again after `retry_after_ms`."""

    def __init__(self, text: str, *, retry_after_ms: int, leader_id: int = 0) -> None:
        super().__init__(text, leader_id=leader_id)
        self.retry_after_ms = retry_after_ms


class ApplicationError(RequestError):
    """The user's method raised: the command is in the log and its effect is what the method left behind.

    `kind` is the name of the exception class on the node, `message` its text.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class UnknownOutcomeError(RequestError):
    """No answer within the deadline: the command may or may not have been executed."""

    retry_safe = False
    exit_code = ExitCode.COMMAND_UNKNOWN_OUTCOME


class ClusterUnreachableError(RequestError):
    """No node answered within the deadline, and the request was never handed to one: it never happened."""

    exit_code = ExitCode.CLUSTER_UNREACHABLE


class InvariantViolation(BaseException):
    """The program is wrong. Never catch this."""
