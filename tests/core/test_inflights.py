"""The window of appends in flight."""

from __future__ import annotations

import pytest

from raftactors.core.inflights import Inflights
from raftactors.errors import InvariantViolation


def test_full_by_messages() -> None:
    window = Inflights(2)
    window.add(1, 10)
    assert not window.is_full()
    window.add(2, 10)
    assert window.is_full()
    with pytest.raises(InvariantViolation, match="full window"):
        window.add(3, 0)


def test_bytes_are_overshot_by_one_message_at_most() -> None:
    window = Inflights(100, 15)
    window.add(1, 14)
    assert not window.is_full()
    window.add(2, 1000)
    assert window.is_full()
    assert window.bytes == 1014


def test_acknowledgements_free_what_they_cover() -> None:
    window = Inflights(10)
    for index in (3, 5, 9):
        window.add(index, index)
    window.free_up_to(2)
    assert (window.count, window.bytes) == (3, 17)
    window.free_up_to(6)
    assert (window.count, window.bytes) == (1, 9)
    window.free_up_to(100)
    assert (window.count, window.bytes) == (0, 0)


def test_a_copy_lives_its_own_life() -> None:
    window = Inflights(10, 50)
    window.add(1, 2)
    twin = window.copy()
    window.clear()
    assert (window.count, window.bytes) == (0, 0)
    assert (twin.count, twin.bytes, twin.messages_max, twin.bytes_max) == (1, 2, 10, 50)
    twin.free_up_to(1)
    assert twin.count == 0
