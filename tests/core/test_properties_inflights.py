"""The window of appends in flight against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raftactors.core.inflights import Inflights
from raftactors.core.types import UNLIMITED
from raftactors.errors import InvariantViolation


class InflightsMachine(RuleBasedStateMachine):
    """Appends go out and are acknowledged; the model adds everything up anew whenever it is asked."""

    @initialize(messages_max=st.integers(1, 4), bytes_max=st.one_of(st.integers(1, 20), st.just(UNLIMITED)))
    def start(self, messages_max: int, bytes_max: int) -> None:
        self.window = Inflights(messages_max, bytes_max)
        self.sent: list[tuple[int, int]] = []
        self.last = 0

    @rule(step=st.integers(0, 3), size=st.integers(0, 12))
    def add(self, step: int, size: int) -> None:
        self.last += step
        if self._is_full():
            with pytest.raises(InvariantViolation):
                self.window.add(self.last, size)
        else:
            self.window.add(self.last, size)
            self.sent.append((self.last, size))

    @rule(back=st.integers(-1, 8))
    def acknowledge(self, back: int) -> None:
        self.window.free_up_to(self.last - back)
        self.sent = [(index, size) for index, size in self.sent if index > self.last - back]

    @rule()
    def clear(self) -> None:
        self.window.clear()
        self.sent = []

    @rule()
    def go_on_with_a_copy(self) -> None:
        original, self.window = self.window, self.window.copy()
        original.clear()

    @invariant()
    def agrees(self) -> None:
        assert self.window.count == len(self.sent)
        assert self.window.bytes == sum(size for _, size in self.sent)
        assert self.window.is_full() == self._is_full()

    def _is_full(self) -> bool:
        window = self.window
        return len(self.sent) >= window.messages_max or sum(size for _, size in self.sent) >= window.bytes_max


TestInflights = InflightsMachine.TestCase
