"""No acknowledgement of real processes leaves before a quorum has synced it (RELIABILITY A2)."""

from __future__ import annotations

import pytest

from tests.durability.order_oracle import run, zmtp_messages

pytestmark = pytest.mark.usefixtures("preload_shim")


@pytest.mark.parametrize("nodes", [1, 3])
def test_no_acknowledgement_is_early(nodes: int) -> None:
    verdict = run(nodes, 500)
    assert verdict.early == 0
    assert verdict.acknowledgements >= 500
    assert verdict.replies > 50


def test_nodes_that_answer_before_their_disk_are_caught() -> None:
    verdict = run(1, 50, planted=True)
    assert verdict.early >= verdict.acknowledgements // 2 > 0


def test_messages_are_timed_by_their_first_byte() -> None:
    greeting = bytes(64)
    ready, first, long = b"\x04\x02xx", b"\x00\x03abc", b"\x02" + (300).to_bytes(8, "big") + bytes(300)
    sends = [(1, greeting + ready), (2, first[:2]), (3, first[2:] + long[:100]), (4, long[100:] + first[:3])]
    assert list(zmtp_messages(sends)) == [(2, b"abc"), (3, bytes(300))]


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
def test_no_acknowledgement_of_a_hundred_thousand_is_early(nodes: int) -> None:
    verdict = run(nodes, 25_000)
    assert verdict.early == 0
    assert verdict.acknowledgements >= 25_000
