"""The limits and waiting times of a client, checked at construction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from raftactors.config import Limits
from raftactors.errors import ConfigError

_LIMITS = Limits()

MS_MAX = 2**31
"""The longest time that may be given, in milliseconds: about 25 days."""

FRAME_OVERHEAD_BYTES = 128
"""What the envelope (48 bytes), the largest header of a frame (36) and a length (4) may take, with some to spare."""

SESSIONS_MAX = 255
"""Sessions of one client; the low byte of a request number names the session."""


def timeout_problem(timeout_ms: object, *, low: int = 1) -> str:
    """What is wrong with a timeout that a caller gave, empty if nothing is."""
    if type(timeout_ms) is int and low <= timeout_ms <= MS_MAX:
        return ""
    return f"timeout_ms is {timeout_ms!r:.100}; it must be a whole number of milliseconds from {low} to {MS_MAX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How long a client waits, and how much it holds.

    `timeout_ms` is the default deadline of a request. A node that owes an answer and is quiet for `probe_ms` makes the
    client ask another node who leads; after `silence_ms` it is left for another node, and what it owes is sent there
    again. Refused work is offered again after a random wait that doubles up to `backoff_ms_max`. A session has at most
    `frames_inflight_max` frames unanswered, and at most `pending_requests_max` requests in all.
    """

    timeout_ms: int = 10_000
    probe_ms: int = 150
    silence_ms: int = 1_000
    backoff_ms_max: int = 500
    frames_inflight_max: int = 8
    pending_requests_max: int = 65_536
    close_ms: int = 250

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or not 1 <= value <= MS_MAX:
                raise ConfigError(f"{field.name} is {value!r}; it must be a whole number from 1 to {MS_MAX}")
        if self.probe_ms >= self.silence_ms:
            raise ConfigError(
                f"probe_ms ({self.probe_ms}) must be shorter than silence_ms ({self.silence_ms}): a node is doubted "
                "before it is left"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLimits:
    """What the cluster's nodes accept, as their WELCOME says; the defaults hold for what it leaves out."""

    command_bytes_max: int = _LIMITS.command_bytes_max
    client_frame_bytes_max: int = _LIMITS.client_frame_bytes_max
    session_inflight_max: int = _LIMITS.session_inflight_max
    session_ttl_ms: int = _LIMITS.session_ttl_ms

    @classmethod
    def from_welcome(cls, limits: dict[str, int], frame_bytes_max: int) -> NodeLimits:
        """Take the limits that are known here and positive; our own sockets carry no more than `frame_bytes_max`."""
        known = {field.name for field in dataclasses.fields(cls)}
        named = {name: limit for name, limit in limits.items() if name in known and limit > 0}
        frame_max = min(named.get("client_frame_bytes_max", frame_bytes_max), frame_bytes_max)
        command_max = min(named.get("command_bytes_max", frame_max), max(1, frame_max - FRAME_OVERHEAD_BYTES))
        return cls(**named | {"client_frame_bytes_max": frame_max, "command_bytes_max": command_max})
