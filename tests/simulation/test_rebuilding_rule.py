"""The rule by which a lost node is made anew: the log that is taken has every committed entry, whichever node is lost.

At every commit of simulated clusters that lose power, processes and messages, each node in turn counts as lost, and of
the others every choice of as many as `rebuild_node` asks for.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from raftactors.testing.simulation import simulate
from raftactors.testing.simulation.checks import Checks
from raftactors.testing.simulation.disk import Durable

SEEDS = range(1, 31)


def end_of(log: Durable) -> tuple[int, int]:
    """What elections compare."""
    return (log.entries[-1].term if log.entries else log.snapshot.term), log.last_index


def lacking(logs: dict[int, Durable], committed: tuple[int, int], needed: int) -> list[str]:
    """The cases in which the log that would be taken lacks the (index, term) that is committed."""
    return [
        f"node {lost} lost, {readable} read"
        for lost in logs
        for readable in itertools.combinations([number for number in logs if number != lost], needed)
        if not max((logs[number] for number in readable), key=end_of).holds(*committed)
    ]


def cases_found(patch: pytest.MonkeyPatch, *, too_few: int) -> tuple[int, int]:
    """(commits looked at, cases in which something would be lost) when `too_few` logs fewer than needed are read."""
    whole = Checks._on_commit
    looks, found = 0, 0

    def look(checks: Any, process: Any, before: int, after: int) -> None:
        nonlocal looks, found
        whole(checks, process, before, after)
        world = checks._world
        voters = world.plan.voters
        needed = len(voters) - len(voters) // 2 - too_few
        index = len(world.oracle.committed)
        if needed < 1 or len(voters) < 2 or index <= len(voters):
            return  # The first entries are the members themselves, which a new cluster has before any disk does.
        looks += 1
        logs = {number: world.disks[number].durable for number in voters}
        found += len(lacking(logs, (index, world.oracle.committed[-1].term), needed))

    with patch.context() as inner:
        inner.setattr(Checks, "_on_commit", look)
        for seed in SEEDS:
            # Members that come and go are another matter: `rebuild_node` knows the fixed ones.
            assert simulate(seed, without={"membership"}).ok
    return looks, found


def test_the_preferred_log_of_enough_nodes_has_all_that_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, found = cases_found(monkeypatch, too_few=0)
    assert looks > 2_000
    assert found == 0


def test_one_node_fewer_would_not_be_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, found = cases_found(monkeypatch, too_few=1)
    assert looks > 500
    assert found > 100
