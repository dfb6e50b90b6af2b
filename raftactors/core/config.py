"""What one Raft node is told at construction, checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Protocol

from raftactors.core.storage import Storage
from raftactors.core.types import APPEND_THREAD, APPLY_THREAD, NONE, UNLIMITED
from raftactors.errors import ConfigError


class ReadOnlyOption(Enum):
    """How a linearizable read is confirmed.

    SAFE: by a round of heartbeats to a quorum (thesis section 6.4).
    LEASE_BASED: by the leader's lease, without a message; correct only while the nodes' clocks run at about the
    same rate.
    """

    SAFE = "safe"
    LEASE_BASED = "lease"


class Logger(Protocol):
    """The part of `logging.Logger` that the core uses; texts are formatted with `%`, by the logger, if at all."""

    def debug(self, msg: str, *args: object) -> None:
        """Detail of the protocol."""

    def info(self, msg: str, *args: object) -> None:
        """A change of state."""

    def warning(self, msg: str, *args: object) -> None:
        """Something that should not happen often."""

    def error(self, msg: str, *args: object) -> None:
        """Something that should not happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """Configuration of one node. Bad values raise ConfigError; times are in ticks, sizes in bytes.

    `applied`: highest index that the application has already applied; nothing up to it is handed out again.
    `bytes_per_message_max`: encoded bytes of the entries of one append; 0 sends one entry a message.
    `inflight_messages_max`, `inflight_bytes_max`: appends, and payload bytes (0: no limit), under way to a follower.
    `uncommitted_bytes_max`: payload bytes a leader takes on before they are committed (0: no limit).
    `committed_bytes_per_ready_max`: encoded bytes handed out for application and not yet acknowledged (0: as
    `bytes_per_message_max`).
    `check_quorum`: a leader that heard no quorum for an election timeout steps down (thesis section 6.2).
    `pre_vote`: nobody raises its term before a quorum would elect it (thesis section 9.6).
    `step_down_on_removal`: a leader that was removed or demoted becomes a follower as soon as it applies that.
    `disable_conf_change_validation`: membership changes are appended without a look at what is pending.
    `random`: the only source of chance. Each reset draws an election timeout of `election_ticks +
    random.randrange(election_ticks)` ticks.
    `election_jitter`: replaces that draw: called with the node's id and its new term, it returns the ticks to add to
    `election_ticks`, in [0, election_ticks). Replays of recorded runs pass the recorded formula here.
    """

    node_id: int
    election_ticks: int
    heartbeat_ticks: int
    storage: Storage
    random: Random
    logger: Logger
    applied: int = 0
    bytes_per_message_max: int = UNLIMITED
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 0
    uncommitted_bytes_max: int = 0
    committed_bytes_per_ready_max: int = 0
    check_quorum: bool = False
    pre_vote: bool = False
    read_only_option: ReadOnlyOption = ReadOnlyOption.SAFE
    disable_proposal_forwarding: bool = False
    step_down_on_removal: bool = False
    disable_conf_change_validation: bool = False
    async_storage_writes: bool = False
    election_jitter: Callable[[int, int], int] | None = None

    def __post_init__(self) -> None:
        if not NONE < self.node_id <= UNLIMITED:
            raise ConfigError(f"node_id is {self.node_id}; it must be in [1, 2**64 - 3], 0 stands for no node")
        if self.node_id in (APPEND_THREAD, APPLY_THREAD):
            raise ConfigError(f"node_id is {self.node_id}; the two highest ids name the local storage threads")
        if self.heartbeat_ticks <= 0:
            raise ConfigError(f"heartbeat_ticks is {self.heartbeat_ticks}; it must be at least 1")
        if self.election_ticks <= self.heartbeat_ticks:
            raise ConfigError(
                f"election_ticks is {self.election_ticks}; it must exceed heartbeat_ticks ({self.heartbeat_ticks})"
            )
        if self.inflight_messages_max <= 0:
            raise ConfigError(f"inflight_messages_max is {self.inflight_messages_max}; it must be at least 1")
        self._check_sizes()
        if self.read_only_option is ReadOnlyOption.LEASE_BASED and not self.check_quorum:
            raise ConfigError("read_only_option is LEASE_BASED; a lease needs check_quorum")

    def _check_sizes(self) -> None:
        for name in (
            "applied",
            "bytes_per_message_max",
            "inflight_bytes_max",
            "uncommitted_bytes_max",
            "committed_bytes_per_ready_max",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must not be negative")
        if 0 < self.inflight_bytes_max < self.bytes_per_message_max:
            raise ConfigError(
                f"inflight_bytes_max is {self.inflight_bytes_max}; it must be 0 (no limit) or at least "
                f"bytes_per_message_max ({self.bytes_per_message_max})"
            )
