"""What a leader knows of one member's log, and how fast it may send to it."""

from __future__ import annotations

from enum import Enum

from raftactors.core.inflights import Inflights


class ProgressState(Enum):
    """How a follower is replicated to.

    PROBE: its log end is not known; one append at a time until it answers.
    REPLICATE: it follows; appends are pipelined within the in-flight window.
    SNAPSHOT: it needs entries that were compacted; nothing is sent until a snapshot has arrived.
    """

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """Replication to one member. `match` < `next` always.

    `match`: every entry up to here is known to be durable on the member (Raft paper Figure 2, matchIndex).
    `next`: index of the next entry to send (nextIndex); optimistic while replicating.
    `sent_commit`: highest commit index the member was told, as far as the leader knows.
    `flow_paused`: no further entries until an acknowledgement or a heartbeat response arrives.
    `pending_snapshot`: index of the snapshot on its way, in state SNAPSHOT.
    `recent_active`: something was heard of it since the last check of the quorum.
    """

    __slots__ = (
        "flow_paused",
        "inflights",
        "is_learner",
        "match",
        "next",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(
        self,
        *,
        next: int,  # noqa: A002  # nextIndex is the field's term
        inflights: Inflights,
        match: int = 0,
        is_learner: bool = False,
        recent_active: bool = False,
    ) -> None:
        self.match = match
        self.next = next
        self.sent_commit = 0
        self.state = ProgressState.PROBE
        self.flow_paused = False
        self.pending_snapshot = 0
        self.recent_active = recent_active
        self.inflights = inflights
        self.is_learner = is_learner

    def copy(self) -> Progress:
        """An independent progress with the same content."""
        twin = Progress(
            match=self.match,
            next=self.next,
            inflights=self.inflights.copy(),
            is_learner=self.is_learner,
            recent_active=self.recent_active,
        )
        twin.sent_commit = self.sent_commit
        twin.state = self.state
        twin.flow_paused = self.flow_paused
        twin.pending_snapshot = self.pending_snapshot
        return twin

    def is_paused(self) -> bool:
        """Whether no append may be sent at the moment."""
        return self.flow_paused or self.state is ProgressState.SNAPSHOT

    def enter_probe(self) -> None:
        """Send one append at a time again, from behind `match`, or from behind a snapshot that was under way."""
        after_snapshot = self.pending_snapshot + 1 if self.state is ProgressState.SNAPSHOT else 0
        self._enter(ProgressState.PROBE)
        self.next = max(self.match + 1, after_snapshot)
        self._forget_commit_beyond_next()

    def enter_replicate(self) -> None:
        """Send optimistically from behind `match`."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def enter_snapshot(self, index: int) -> None:
        """Wait for the snapshot that ends at `index`; it also tells the member that `index` is committed."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def advance_match(self, index: int) -> bool:
        """Record that the member holds every entry up to `index` (inclusive).

        Returns False for a stale or duplicate acknowledgement, which is normal. Source: Raft paper Figure 2.
        """
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.flow_paused = False
        return True

    def reject(self, rejected_index: int, hint_index: int) -> bool:
        """Fall back after the member refused an append that follows `rejected_index`.

        `hint_index` is the highest index at which the logs may still agree. Returns False if the rejection is
        stale: replicating, when the member has acknowledged that index since; probing, when another index is asked.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected_index <= self.match:
                return False
            self.next = self.match + 1
        else:
            if rejected_index != self.next - 1:
                return False
            self.next = max(min(rejected_index, hint_index + 1), self.match + 1)
            self.flow_paused = False
        self._forget_commit_beyond_next()
        return True

    def record_append(self, count: int, payload_bytes: int) -> None:
        """Account for an append of `count` entries that was just sent. Not called in state SNAPSHOT."""
        if self.state is ProgressState.REPLICATE:
            inflights = self.inflights
            if count:
                self.next += count
                inflights.add(self.next - 1, payload_bytes)
            # Once the window is full, this message serves as the probe that gets the member going again.
            self.flow_paused = inflights.is_full()
        elif count:
            self.flow_paused = True

    def can_raise_commit(self, committed: int) -> bool:
        """Whether telling the member of `committed` could raise its commit index within what was sent to it."""
        return self.sent_commit < committed and self.sent_commit < self.next - 1

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.flow_paused = False
        self.pending_snapshot = 0
        self.inflights.clear()

    def _forget_commit_beyond_next(self) -> None:
        """A member that lacks entries cannot have committed them, whatever it was told."""
        if self.sent_commit >= self.next:
            self.sent_commit = self.next - 1
