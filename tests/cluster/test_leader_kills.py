"""Leaders killed with SIGKILL under load: nothing acknowledged is lost, nothing is executed twice."""

from __future__ import annotations

import pytest

from tests.cluster.leader_kills import run


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
def test_a_few_leader_kills(kills: int) -> None:
    account = run(kills=kills)
    assert account.clean, account.as_dict()
    assert account.acknowledged > kills * 4 * 50


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_hundred_leader_kills() -> None:
    account = run(kills=100)
    assert account.clean, account.as_dict()
