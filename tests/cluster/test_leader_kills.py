"""Leaders killed with SIGKILL under load: nothing acknowledged is lost, nothing is executed twice."""

from __future__ import annotations

import pytest

from tests.cluster.leader_kills import run


@pytest.mark.timeout(120)
def test_five_leader_kills() -> None:
    account = run(kills=5)
    assert account.clean, account.as_dict()
    assert account.acknowledged > 5 * 4 * 50


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_hundred_leader_kills() -> None:
    account = run(kills=100)
    assert account.clean, account.as_dict()
