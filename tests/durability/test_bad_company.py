"""A short campaign in bad company, and the proof that its watch sees what it has to see (RELIABILITY I1 to I6)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from raftactors import LocalCluster
from raftactors.client import Client
from tests.cluster.ledger import Ledger
from tests.durability.bad_company import Size, run
from tests.durability.honest_clients import Record, judge
from tests.durability.node_watch import Measured, Span, Watch, listening

STEP_TIMEOUT_S = 30.0


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_short_campaign_in_bad_company() -> None:
    outcome = run(Size.of_minutes(0.75))
    assert outcome.faults() == []
    assert outcome.verdict.acknowledged > outcome.size.clients


def test_a_death_that_nobody_asked_for_is_counted_and_a_kill_is_not() -> None:
    with LocalCluster(1, Ledger) as cluster:
        watch = Watch(cluster)
        watch.begin()
        with listening(watch):
            cluster.kill(1)
            cluster.restart(1)
            os.kill(cluster.nodes[1].pid, signal.SIGABRT)
            until(lambda: watch.measured[1].deaths)
        watch.end()
        (death,) = watch.measured[1].deaths
        assert "SIGABRT" in death
        assert watch.measured[1].rss_bytes_max > 0
        assert watch.measured[1].faults() == [f"died: {death}"]


def test_what_grows_is_a_fault() -> None:
    measured = Measured(rss_bytes_max=300 << 20, descriptors=Span(40, 500, 90), threads=Span(14, 14, 14))
    assert [fault.split()[0] for fault in measured.faults()] == ["took", "did"]


def test_lost_repeated_and_reordered_writes_and_wrong_reads_are_counted() -> None:
    class Fake(Client):
        def __init__(self, executed: list[int]) -> None:
            self._executed = executed

        def query(self, method: str, /, *args: object, **kwargs: object) -> object:
            match args:
                case ("writer", int(start), int(count)):
                    return self._executed[start : start + count]
            raise AssertionError(args)

    record = Record("writer", sent=5, acknowledged=[0, 1, 2], failed={3: "timeout"}, reads=2)
    assert judge([record], Fake([0, 1, 2])).clean
    assert judge([record], Fake([0, 1, 2, 3])).clean
    assert judge([record], Fake([0, 2])).lost == 1
    assert judge([record], Fake([0, 1, 1, 2])).twice == 1
    assert judge([record], Fake([0, 2, 1])).disordered == 1
    record.reads_wrong.append("wrote 2 and read []")
    assert judge([record], Fake([0, 1, 2])).reads_wrong == 1
    with pytest.raises(AssertionError, match="never sent"):
        judge([record], Fake([0, 1, 2, 9]))
