"""A follower's progress against a model that keeps every acknowledgement and every index that was sent."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raftactors.core.inflights import Inflights
from raftactors.core.progress import Progress, ProgressState

PROBE, REPLICATE, SNAPSHOT = ProgressState.PROBE, ProgressState.REPLICATE, ProgressState.SNAPSHOT


class ProgressMachine(RuleBasedStateMachine):
    """`floor` is where the leader decided to begin, `sent` what went out since, one index each."""

    @initialize(first=st.integers(1, 5), messages_max=st.integers(1, 3))
    def start(self, first: int, messages_max: int) -> None:
        self.progress = Progress(next=first, inflights=Inflights(messages_max))
        self.messages_max = messages_max
        self.state = PROBE
        self.acked = {0}
        self.floor = first
        self.sent: list[int] = []
        self.window: list[int] = []
        self.waits = False
        self.told = 0
        self.snapshot = 0

    def _match(self) -> int:
        return max(self.acked)

    def _next(self) -> int:
        return max([self._match(), self.floor - 1, *self.sent]) + 1

    def _begin(self, state: ProgressState, floor: int) -> None:
        self.state, self.floor = state, floor
        self.sent, self.window, self.waits, self.snapshot = [], [], False, 0

    def _cap_told(self) -> None:
        self.told = min(self.told, self._next() - 1)

    @rule()
    def probe(self) -> None:
        self.progress.enter_probe()
        self._begin(PROBE, self.snapshot + 1)
        self._cap_told()

    @rule()
    def replicate(self) -> None:
        self.progress.enter_replicate()
        self._begin(REPLICATE, 0)

    @rule(ahead=st.integers(0, 4))
    def wait_for_snapshot(self, ahead: int) -> None:
        index = self._match() + ahead
        self.progress.enter_snapshot(index)
        self._begin(SNAPSHOT, index + 1)
        self.snapshot = self.told = index

    @precondition(lambda self: self.state is not SNAPSHOT and not self.waits)
    @rule(count=st.integers(0, 3), commit=st.integers(0, 20))
    def send(self, count: int, commit: int) -> None:
        if len(self.window) == self.messages_max:
            count = 0
        first = self._next()
        self.progress.record_append(count, 10 * count)
        self.progress.sent_commit = self.told = commit
        if self.state is REPLICATE:
            self.sent += range(first, first + count)
            self.window += [first + count - 1] if count else []
            self.waits = len(self.window) == self.messages_max
        else:
            self.waits = count > 0

    @rule(offset=st.integers(-4, 4))
    def acknowledge(self, offset: int) -> None:
        index = max(self._next() + offset, 0)
        news = index > self._match()
        assert self.progress.advance_match(index) == news
        self.acked.add(index)
        if news:
            self.waits = False
        if self.state is REPLICATE:
            self.progress.inflights.free_up_to(index)
            self.window = [last for last in self.window if last > index]

    @rule(offset=st.integers(-3, 3), hint=st.integers(0, 15))
    def refuse(self, offset: int, hint: int) -> None:
        rejected = max(self._next() - 1 + offset, 0)
        replicates = self.state is REPLICATE
        stale = rejected in range(self._match() + 1) if replicates else rejected != self._next() - 1
        assert self.progress.reject(rejected, hint) != stale
        if stale:
            return
        self.sent = []
        self.floor = 0 if replicates else min(rejected, hint + 1)
        self.waits = self.waits and replicates
        self._cap_told()

    @rule(committed=st.integers(0, 20))
    def could_tell(self, committed: int) -> None:
        untold = [index for index in range(self.told + 1, committed + 1) if index < self._next()]
        assert self.progress.can_raise_commit(committed) == bool(untold)

    @rule()
    def go_on_with_a_copy(self) -> None:
        original, self.progress = self.progress, self.progress.copy()
        original.enter_snapshot(90)
        original.advance_match(99)

    @invariant()
    def agrees(self) -> None:
        progress = self.progress
        assert progress.match < progress.next
        assert (progress.match, progress.next) == (self._match(), self._next())
        assert (progress.state, progress.pending_snapshot) == (self.state, self.snapshot)
        assert progress.sent_commit == self.told
        assert progress.is_paused() == (self.waits or self.state is SNAPSHOT)
        assert progress.inflights.count == len(self.window)


TestProgress = ProgressMachine.TestCase
