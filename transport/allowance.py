"""How much a connection may hold, and whom it costs when more is held: the rule alone, without a socket.

libzmq bounds the parts of a message but not how many there are, and nothing of it is delivered before its last part
came. So what counts is what the kernel says has come on a connection, against what was taken from it: bytes that
stay away although everything complete was taken belong to one unfinished message, and one frame bounds those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raftactors.config import Limits

FRAMING_BYTES_MAX = 64 * 1024
"""What ZeroMQ's greeting, commands and heads of frames may take beside the frames themselves."""

_FRAMES_WAITING = 8
"""So many of the largest frames may wait on a connection, whatever its limit in bytes says."""

LEAST_CONNECTIONS = 8
"""A listener grants at least so many connections, however few open files the process may have."""


class Allowance(NamedTuple):
    """What one listener grants.

    A connection may hold one unfinished frame of `frame_bytes_max`, all together `unfinished_bytes_max`, and waiting
    frames of `backlog_bytes_max`, all together `backlog_total_bytes_max`. There may be `connections_max` of them, of
    which `strangers_max` may have delivered nothing yet.
    """

    frame_bytes_max: int
    unfinished_bytes_max: int
    backlog_bytes_max: int
    backlog_total_bytes_max: int
    connections_max: int
    strangers_max: int


def client_allowance(limits: Limits) -> Allowance:
    """For the listener of clients."""
    backlog_bytes_max = max(limits.client_backlog_bytes_max, _FRAMES_WAITING * limits.client_frame_bytes_max)
    return Allowance(
        frame_bytes_max=limits.client_frame_bytes_max,
        unfinished_bytes_max=max(8 * limits.client_frame_bytes_max, 4 * 1024 * 1024),
        backlog_bytes_max=backlog_bytes_max,
        backlog_total_bytes_max=8 * backlog_bytes_max,
        connections_max=limits.client_connections_max,
        strangers_max=limits.client_connections_max // 2 + 1,
    )


def peer_allowance(limits: Limits) -> Allowance:
    """For the listeners of members: Raft's own windows bound what an honest one has under way."""
    backlog_bytes_max = max(limits.peer_backlog_bytes_max, _FRAMES_WAITING * limits.peer_frame_bytes_max)
    return Allowance(
        frame_bytes_max=limits.peer_frame_bytes_max,
        unfinished_bytes_max=4 * limits.peer_frame_bytes_max,
        backlog_bytes_max=backlog_bytes_max,
        backlog_total_bytes_max=2 * backlog_bytes_max,
        connections_max=limits.peer_connections_max,
        strangers_max=limits.peer_connections_max // 2 + 1,
    )


@dataclass(slots=True)
class Holding:
    """What one connection holds now, in bytes: in all, and of a message that is not finished. `met`: it delivered."""

    backlog_bytes: int = 0
    unfinished_bytes: int = 0
    met: bool = False


class Cut(NamedTuple):
    """The position of a connection that has to go, and the reason under which that is counted."""

    position: int
    reason: str


def excess(holdings: Sequence[Holding], allowance: Allowance) -> list[Cut]:
    """Which connections have to go so that the others are within the allowance: the largest first, strangers before."""
    cuts: dict[int, str] = {}
    for position, holding in enumerate(holdings):
        if holding.unfinished_bytes > allowance.frame_bytes_max + FRAMING_BYTES_MAX:
            cuts[position] = "unfinished"
        elif holding.backlog_bytes > allowance.backlog_bytes_max + FRAMING_BYTES_MAX:
            cuts[position] = "backlog"
    unfinished = {n: holding.unfinished_bytes for n, holding in enumerate(holdings) if n not in cuts}
    cuts |= dict.fromkeys(_largest(unfinished, allowance.unfinished_bytes_max, holdings), "unfinished_total")
    backlog = {n: holding.backlog_bytes for n, holding in enumerate(holdings) if n not in cuts}
    cuts |= dict.fromkeys(_largest(backlog, allowance.backlog_total_bytes_max, holdings), "backlog_total")
    return [Cut(position, reason) for position, reason in cuts.items()]


def _largest(held: dict[int, int], bytes_max: int, holdings: Sequence[Holding]) -> Iterable[int]:
    surplus = sum(held.values()) - bytes_max
    for position in sorted(held, key=lambda n: (holdings[n].met, -held[n])):
        if surplus <= 0:
            return
        if not held[position]:
            continue
        surplus -= held[position]
        yield position


def fit_connections(limits: Limits, descriptors: int) -> Limits:
    """The limits with as many connections as so many open files hold; members come before clients."""
    if limits.client_connections_max + 2 * limits.peer_connections_max <= descriptors:
        return limits
    peers = min(limits.peer_connections_max, max(LEAST_CONNECTIONS, descriptors // 8))
    clients = min(limits.client_connections_max, max(LEAST_CONNECTIONS, descriptors - 2 * peers))
    return dataclasses.replace(limits, peer_connections_max=peers, client_connections_max=clients)
