"""What one seed stands for: the cluster, its configuration, and which faults strike how hard."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from raftactors.config import Limits
from raftactors.core.config import ReadOnlyOption
from raftactors.core.types import UNLIMITED
from raftactors.errors import ConfigError

TICK_US = 10_000
"""Microseconds of virtual time between two ticks of a node whose clock runs right."""

NODES_MAX = 7

FAULT_CHANCES = {
    "loss": 0.6,
    "delay": 0.6,
    "reorder": 0.6,
    "duplicate": 0.5,
    "replay": 0.4,
    "unreachable": 0.4,
    "client_loss": 0.5,
    "partition": 0.5,
    "one_way": 0.4,
    "partial": 0.4,
    "power_cut": 0.6,
    "blackout": 0.25,
    "kill": 0.4,
    "recovery_cut": 0.3,
    "slow_disk": 0.5,
    "pause": 0.4,
    "skew": 0.4,
    "membership": 0.5,
    "transfer": 0.4,
    "campaign": 0.3,
    "forget": 0.2,
    "compaction": 0.6,
    "snapshot_busy": 0.3,
    "batching": 0.5,
    "expiry": 0.3,
}
"""Every kind of fault, or of disturbance, and how many seeds know it."""

FAULT_KINDS = tuple(FAULT_CHANCES)


class RaftOptions(NamedTuple):
    """The part of the seed that goes into `RaftConfig`, see there."""

    election_ticks: int
    heartbeat_ticks: int
    bytes_per_message_max: int
    inflight_messages_max: int
    inflight_bytes_max: int
    uncommitted_bytes_max: int
    committed_bytes_per_ready_max: int
    check_quorum: bool
    pre_vote: bool
    read_only_option: ReadOnlyOption
    disable_proposal_forwarding: bool
    step_down_on_removal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One seed, worked out. `strengths` holds a number in (0, 1] for each fault that is switched on.

    `voters` start the cluster, the other nodes wait to be added. `fault_us` is the virtual length of the part with
    faults, `events_max` cuts that part shorter.
    """

    seed: int
    nodes: tuple[int, ...]
    voters: tuple[int, ...]
    raft: RaftOptions
    limits: Limits
    strengths: dict[str, float]
    clients: int
    think_us: int
    fault_us: int
    events_max: int
    delay_us: int
    disk_us: int
    conf_validation: bool = True

    @property
    def election_us(self) -> int:
        """The shortest election timeout in microseconds of virtual time."""
        return self.raft.election_ticks * TICK_US

    def strength(self, kind: str) -> float:
        """How hard a fault strikes, in (0, 1]; 0 if it is switched off."""
        return self.strengths.get(kind, 0.0)

    def random(self, stream: str) -> Random:
        """A generator of its own for each part, so that one that is switched off leaves the others alone."""
        return Random(f"{self.seed}/{stream}")


EVENTS_MAX = 4_000
"""Events of the part with faults, unless the caller asks for another number."""


def draw_plan(seed: int, *, without: Collection[str] = (), events_max: int = EVENTS_MAX) -> Plan:
    """Work a seed out; `without` names faults that stay switched off. Raises ConfigError for an unknown one."""
    unknown = set(without) - set(FAULT_KINDS)
    if unknown:
        raise ConfigError(f"unknown faults {sorted(unknown)}; known are {', '.join(FAULT_KINDS)}")
    rng = Random(f"{seed}/plan")
    count = rng.choices(range(1, NODES_MAX + 1), weights=(5, 5, 30, 18, 27, 6, 9))[0]
    strengths = {kind: rng.uniform(0.05, 1.0) for kind, chance in FAULT_CHANCES.items() if rng.random() < chance}
    calm = rng.random() < 0.05
    kept = {kind: strength for kind, strength in strengths.items() if kind not in without and not calm}
    nodes = tuple(range(1, count + 1))
    voters = count if "membership" not in strengths else rng.randint((count + 1) // 2, count)
    raft = _draw_raft(rng)
    election_us = raft.election_ticks * TICK_US
    clients = rng.randint(1, 4)
    return Plan(
        seed=seed,
        nodes=nodes,
        voters=nodes[:voters],
        raft=raft,
        limits=_draw_limits(rng, election_us, clients, expiry="expiry" in kept),
        strengths=kept,
        clients=clients,
        think_us=round(election_us * rng.choice((0.1, 0.2, 0.5, 1.0))),
        fault_us=round(election_us * rng.uniform(15, 40)),
        events_max=events_max,
        delay_us=rng.choice((300, 1_000, 3_000)),
        disk_us=rng.choice((100, 1_000, 4_000)),
    )


def _draw_raft(rng: Random) -> RaftOptions:
    heartbeat_ticks = rng.choice((1, 1, 2))
    bytes_per_message_max = rng.choice((0, 200, 1_000, UNLIMITED, UNLIMITED))
    inflight_bytes_max = rng.choice((0, 0, 1_000, 4_000))
    if inflight_bytes_max < bytes_per_message_max:
        inflight_bytes_max = 0
    check_quorum = rng.random() < 0.5
    lease = check_quorum and rng.random() < 0.4
    return RaftOptions(
        election_ticks=heartbeat_ticks * rng.choice((5, 5, 8, 10)),
        heartbeat_ticks=heartbeat_ticks,
        bytes_per_message_max=bytes_per_message_max,
        inflight_messages_max=rng.choice((1, 2, 8, 256)),
        inflight_bytes_max=inflight_bytes_max,
        uncommitted_bytes_max=rng.choice((0, 0, 600, 3_000)),
        committed_bytes_per_ready_max=rng.choice((0, 1, 500, UNLIMITED)),
        check_quorum=check_quorum,
        pre_vote=rng.random() < 0.5,
        read_only_option=ReadOnlyOption.LEASE_BASED if lease else ReadOnlyOption.SAFE,
        disable_proposal_forwarding=rng.random() < 0.2,
        step_down_on_removal=rng.random() < 0.5,
    )


def _draw_limits(rng: Random, election_us: int, clients: int, *, expiry: bool) -> Limits:
    # Fewer sessions than clients, or too short ones, would leave nobody the time to get anything done.
    sessions_max, ttl_ms = clients + rng.randrange(3), round(election_us * rng.uniform(3, 15) / 1_000)
    return Limits(
        command_bytes_max=1_024,
        client_frame_bytes_max=8_192,
        proposal_bytes_max=rng.choice((8_192, 65_536)),
        session_inflight_max=rng.choice((4, 64)),
        sessions_max=sessions_max if expiry else 1_000,
        session_ttl_ms=ttl_ms if expiry else 3_600_000,
        segment_bytes=16 * 1_024,
    )
