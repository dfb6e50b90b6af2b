"""What the clients may rely on, worked out from the committed log alone by models that share no code with the nodes.

The application is run once, command by command, as the session model says; every node's state and every client's
answer is compared with that.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from raftactors.app.context import Context
from raftactors.app.invocation import Invoker
from raftactors.codec.batch import decode_batch
from raftactors.codec.frames import FrameKind, decode_close_session, decode_commands, decode_keep_alive
from raftactors.codec.replies import ResultStatus
from raftactors.config import Limits
from raftactors.core.confchange_wire import decode_conf_change
from raftactors.core.types import ConfState, Entry, EntryType
from raftactors.testing.simulation.membership_model import change_membership
from raftactors.testing.simulation.session_model import SessionModel
from raftactors.testing.simulation.violation import require
from raftactors.testing.simulation.workload import Workload

STATE_EVERY_ENTRIES = 4
"""The whole state is compared at every index that this divides."""

Outcome = tuple[int, bytes]


class Oracle:
    """The committed log and everything that follows from it.

    `committed` holds the entries from index 1 on, `commit_terms` the term of the node that committed each first.
    `confirmed` holds (time, index): up to this index clients know that what they wrote is there.
    """

    def __init__(self, workload: Workload, limits: Limits) -> None:
        self.committed: list[Entry] = []
        self.commit_terms: list[int] = []
        self.confirmed: list[tuple[int, int]] = [(0, 0)]
        self.executed: dict[tuple[int, int], tuple[int, Outcome]] = {}
        self.failed: dict[tuple[int, int], str] = {}
        self.confs: list[tuple[int, ConfState]] = [(0, ConfState())]
        self.applied_index = 0
        self._application = workload.application()
        self._commands = Invoker(self._application, "command", limits=limits)
        self._queries = Invoker(self._application, "query", limits=limits)
        self._sessions = SessionModel(limits)
        self._states: dict[int, bytes] = {}
        self._snapshots: dict[int, bytes] = {}

    # --- the log --------------------------------------------------------------------------------------------------

    def commit(self, entry: Entry, term: int, node_id: int) -> None:
        """A node in `term` holds this entry for committed: state-machine safety (Raft paper Figure 3)."""
        index = entry.index
        if index <= len(self.committed):
            known = self.committed[index - 1]
            require(
                known == entry,
                "state_machine_safety",
                "node %d commits another entry at index %d: term %d instead of %d",
                node_id,
                index,
                entry.term,
                known.term,
            )
            return
        require(index == len(self.committed) + 1, "commit_gap", "node %d commits %d first", node_id, index)
        self.committed.append(entry)
        self.commit_terms.append(term)

    def conf_at(self, index: int) -> ConfState:
        """The membership once everything up to `index` is applied."""
        for since, conf in reversed(self.confs):
            if since <= index:
                return conf
        return ConfState()

    def confs_between(self, first: int, last: int) -> list[ConfState]:
        """Every membership in force while the applied index went from `first` to `last`."""
        return [self.conf_at(first)] + [conf for since, conf in self.confs if first < since <= last]

    # --- the state ------------------------------------------------------------------------------------------------

    def apply(self, entry: Entry, node_id: int) -> None:
        """A node applies this entry; the first one to do so takes the oracle along."""
        index = entry.index
        require(index <= len(self.committed), "apply_before_commit", "node %d applies index %d", node_id, index)
        require(
            self.committed[index - 1] == entry, "state_machine_safety", "node %d applies another %d", node_id, index
        )
        while self.applied_index < index:
            self._advance(self.committed[self.applied_index])

    def _advance(self, entry: Entry) -> None:
        self.applied_index = index = entry.index
        if entry.type is not EntryType.NORMAL:
            conf = change_membership(self.confs[-1][1], decode_conf_change(entry))
            self.confs.append((index, conf))
        elif entry.data is not None:
            batch = decode_batch(entry.data)
            self._sessions.advance_clock(batch.timestamp_ms)
            ordinal = 0
            for position, (_, kind, body) in enumerate(batch.frames):
                ordinal = self._frame(index, position, kind, body, ordinal)
        if index % STATE_EVERY_ENTRIES == 0:
            self._states[index] = state_digest(self._application.snapshot())

    def _frame(self, index: int, position: int, kind: int, body: memoryview, ordinal: int) -> int:
        sessions = self._sessions
        if kind == FrameKind.OPEN_SESSION:
            sessions.open(index << 16 | position)
        elif kind == FrameKind.CLOSE_SESSION:
            sessions.close(decode_close_session(body))
        elif kind == FrameKind.KEEP_ALIVE:
            alive = decode_keep_alive(body)
            sessions.touch(alive.session, alive.acked)
        else:
            for session, sequence, command in sessions.due(decode_commands(body)):
                ordinal += 1
                context = Context(index=index, ordinal=ordinal, now_ms=sessions.now_ms, session=session)
                outcome = self._invoke(self._commands, command, context)
                if session:
                    self._execute((session, sequence), index, outcome)
        return ordinal

    def _execute(self, name: tuple[int, int], index: int, outcome: Outcome) -> None:
        require(name not in self.executed, "exactly_once", "command %s is executed twice", name)
        require(
            name not in self.failed,
            "definite_failure",
            "command %s is executed at index %d after its client was told: %s",
            name,
            index,
            self.failed.get(name),
        )
        self.executed[name] = (index, outcome)

    @staticmethod
    def _invoke(invoker: Invoker, call: memoryview, context: Context) -> Outcome:
        def same() -> Context:
            return context

        status, content = invoker.invoke(call, same)
        return int(status), content

    def check_state(self, index: int, node_id: int, snapshot: Callable[[], object]) -> None:
        """Compare a node's state at an applied index with the oracle's, where that was kept."""
        known = self._states.get(index)
        if known is not None:
            require(state_digest(snapshot()) == known, "replica_state", "node %d differs at index %d", node_id, index)

    def check_snapshot(self, index: int, node_id: int, content: bytes) -> None:
        """All snapshots of one index are the same bytes, sessions included."""
        digest = blake2b(content, digest_size=16).digest()
        require(
            self._snapshots.setdefault(index, digest) == digest,
            "replica_snapshot",
            "node %d has another replica state at index %d",
            node_id,
            index,
        )

    # --- the clients ----------------------------------------------------------------------------------------------

    def confirm(self, index: int, now_us: int) -> None:
        """A client was told that everything up to `index` has happened."""
        if index > self.confirmed[-1][1]:
            self.confirmed.append((now_us, index))

    def confirmed_at(self, time_us: int) -> int:
        """What clients knew at a time."""
        return next((index for since, index in reversed(self.confirmed) if since <= time_us), 0)

    def check_result(self, name: tuple[int, int], index: int, outcome: Outcome) -> None:
        """A client got a result: the command was executed once, up to `index`, with this outcome."""
        require(name in self.executed, "acknowledged_lost", "command %s was acknowledged but not executed", name)
        place, expected = self.executed[name]
        require(
            place <= index and expected == outcome,
            "wrong_result",
            "command %s, executed at index %d with %s, was answered at %d with %s",
            name,
            place,
            expected,
            index,
            outcome,
        )

    def fail(self, name: tuple[int, int], reason: str) -> None:
        """A client was told for good that this command did not happen."""
        require(
            name not in self.executed,
            "definite_failure",
            "command %s was executed, but its client was told: %s",
            name,
            reason,
        )
        self.failed[name] = reason

    def check_query(self, call: bytes, index: int, required: int, outcome: Outcome) -> None:
        """A query answered at `index` sees what was known when it was asked, and the right state."""
        require(index >= required, "stale_read", "a read sees index %d, but %d was confirmed", index, required)
        require(index <= self.applied_index, "read_ahead", "a read sees index %d, nobody applied it", index)
        if index == self.applied_index:
            context = Context(index=index, now_ms=self._sessions.now_ms)
            expected = self._invoke(self._queries, memoryview(call), context)
            require(expected == outcome, "wrong_read", "at index %d: %s instead of %s", index, outcome, expected)


def state_digest(state: object) -> bytes:
    """A short name for an application's state."""
    return blake2b(repr(state).encode(), digest_size=8).digest()


NOT_EXECUTED = frozenset({int(ResultStatus.SESSION_EXPIRED), int(ResultStatus.OUT_OF_ORDER)})
"""Statuses that say: not executed by this attempt."""
