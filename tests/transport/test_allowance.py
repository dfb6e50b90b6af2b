"""Who has to go when connections hold too much, as a table."""

from __future__ import annotations

import pytest

from raftactors.config import Limits
from raftactors.transport.allowance import (
    FRAMING_BYTES_MAX,
    LEAST_CONNECTIONS,
    Allowance,
    Cut,
    Holding,
    excess,
    fit_connections,
)

KIB = 1024
ALLOWANCE = Allowance(
    frame_bytes_max=256 * KIB,
    unfinished_bytes_max=1024 * KIB,
    backlog_bytes_max=2048 * KIB,
    backlog_total_bytes_max=4096 * KIB,
    connections_max=100,
    strangers_max=50,
)


def unfinished(size: int, *, met: bool = True) -> Holding:
    return Holding(backlog_bytes=size, unfinished_bytes=size, met=met)


@pytest.mark.parametrize(
    ("holdings", "cuts"),
    [
        ([], []),
        ([unfinished(256 * KIB), Holding(2048 * KIB, 0, True)], []),
        ([unfinished(256 * KIB + FRAMING_BYTES_MAX)], []),
        ([unfinished(256 * KIB + FRAMING_BYTES_MAX + 1)], [Cut(0, "unfinished")]),
        ([Holding(), Holding(2048 * KIB + FRAMING_BYTES_MAX + 1, 0, True)], [Cut(1, "backlog")]),
        ([unfinished(250 * KIB)] * 4, []),
        ([unfinished(100 * KIB)] * 4 + [unfinished(200 * KIB)] * 4, [Cut(4, "unfinished_total")]),
        # A stranger goes before a larger one that has delivered something; one that holds nothing does not help.
        (
            [Holding()] + [unfinished(200 * KIB)] * 5 + [unfinished(90 * KIB, met=False)],
            [Cut(6, "unfinished_total")],
        ),
        ([Holding(1500 * KIB, 0, True)] * 3, [Cut(0, "backlog_total")]),
        ([unfinished(900 * KIB), *[Holding(2000 * KIB, 0, True)] * 2], [Cut(0, "unfinished")]),
    ],
)
def test_the_largest_stranger_goes_first(holdings: list[Holding], cuts: list[Cut]) -> None:
    assert excess(holdings, ALLOWANCE) == cuts


def test_connections_fit_into_the_open_files_and_members_come_first() -> None:
    limits = Limits(client_connections_max=1_000, peer_connections_max=100)
    assert fit_connections(limits, 1_200) == limits
    for descriptors in (1_199, 400, 100):
        fitting = fit_connections(limits, descriptors)
        assert fitting.client_connections_max + 2 * fitting.peer_connections_max <= descriptors
        assert fitting.client_connections_max >= fitting.peer_connections_max >= LEAST_CONNECTIONS
    least = fit_connections(limits, 1)
    assert (least.client_connections_max, least.peer_connections_max) == (LEAST_CONNECTIONS, LEAST_CONNECTIONS)
