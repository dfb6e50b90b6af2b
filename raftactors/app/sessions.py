"""The session table: what makes a command execute exactly once however often its frame arrives.

Each session runs its commands first in, first out. A command executes when its sequence is the next one; an older one
gets the result that it got before, until the client acknowledges it; a newer one is not executed. Everything here
follows from the log alone, so every replica has the same table (Raft thesis section 6.3).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from raftactors.codec.frames import Commands
from raftactors.codec.replies import ResultStatus
from raftactors.errors import ApplicationStateError

CACHED_BYTES_MAX = 8 * 1024 * 1024
"""Result bytes that one session may leave unacknowledged; no command of it executes beyond that."""

CACHED_BYTES_TOTAL_MAX = 256 * 1024 * 1024
"""Result bytes of all sessions; beyond that the least recently active session is evicted."""

Outcome: TypeAlias = tuple[int, bytes]
"""Result status and content."""

FrozenSession: TypeAlias = tuple[int, int, int, int, tuple[Outcome, ...]]
"""Id, time of the last sign of life, next sequence, acknowledged sequence, and the results kept."""

_EXPIRED: Outcome = (ResultStatus.SESSION_EXPIRED, b"")
_OUT_OF_ORDER: Outcome = (ResultStatus.OUT_OF_ORDER, b"")
_ALREADY_ACKED: Outcome = (ResultStatus.ALREADY_ACKED, b"")
_WINDOW_FULL: Outcome = (ResultStatus.WINDOW_FULL, b"")


class Session:
    """One client's retry identity.

    Invariant: `results` holds exactly the sequences acked + 1 to next_sequence - 1, in this order.
    """

    __slots__ = ("acked", "active_ms", "cached_bytes", "next_sequence", "results", "session_id")

    def __init__(self, session_id: int, active_ms: int) -> None:
        self.session_id = session_id
        self.active_ms = active_ms
        self.next_sequence = 1
        self.acked = 0
        self.cached_bytes = 0
        self.results: dict[int, Outcome] = {}

    def acknowledge(self, acked: int) -> int:
        """Forget the results up to `acked`; returns the bytes freed. A client cannot acknowledge what never ran."""
        acked = min(acked, self.next_sequence - 1)
        if acked <= self.acked:
            return 0
        pop = self.results.pop
        freed = sum([len(pop(sequence)[1]) for sequence in range(self.acked + 1, acked + 1)])
        self.acked = acked
        self.cached_bytes -= freed
        return freed


class SessionTable:
    """All sessions of the cluster, the least recently active first.

    At most `sessions_max` sessions, idle for at most `session_ttl_ms` of replicated time, each with at most
    `inflight_max` unacknowledged results. The three limits must be the same on every node.
    """

    def __init__(self, *, sessions_max: int, session_ttl_ms: int, inflight_max: int) -> None:
        self._sessions_max = sessions_max
        self._session_ttl_ms = session_ttl_ms
        self._inflight_max = inflight_max
        self._sessions: OrderedDict[int, Session] = OrderedDict()
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session_id: int) -> bool:
        return session_id in self._sessions

    @property
    def cached_bytes(self) -> int:
        """Result bytes kept for all sessions."""
        return self._cached_bytes

    def open(self, session_id: int, now_ms: int) -> None:
        """Add a session; at the limit the least recently active one is evicted."""
        while len(self._sessions) >= self._sessions_max:
            self._evict()
        self._sessions[session_id] = Session(session_id, now_ms)

    def close(self, session_id: int) -> None:
        """Forget a session. Closing one that is gone is no error: the wish is fulfilled."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._cached_bytes -= session.cached_bytes

    def keep_alive(self, session_id: int, acked: int, now_ms: int) -> bool:
        """Note a sign of life and its acknowledgement; False when the session is gone."""
        session = self._touch(session_id, acked, now_ms)
        return session is not None

    def expire(self, now_ms: int) -> None:
        """Evict the sessions that were idle longer than `session_ttl_ms` at replicated time `now_ms`."""
        sessions = self._sessions
        while sessions:
            session = next(iter(sessions.values()))
            if session.active_ms + self._session_ttl_ms >= now_ms:
                return
            self._evict()

    def execute(self, frame: Commands, now_ms: int, run: Callable[[memoryview], Outcome]) -> list[Outcome]:
        """Run the frame's commands that are due, each through `run`, and give one outcome for each."""
        session = self._touch(frame.session, frame.acked, now_ms)
        if session is None:
            return [_EXPIRED] * len(frame.commands)
        outcomes: list[Outcome] = []
        results = session.results
        for sequence, command in enumerate(frame.commands, frame.first_sequence):
            if sequence != session.next_sequence:
                outcomes.append(self._out_of_turn(session, sequence))
            elif len(results) >= self._inflight_max or session.cached_bytes >= CACHED_BYTES_MAX:
                outcomes.append(_WINDOW_FULL)
            else:
                outcome = run(command)
                results[sequence] = outcome
                session.next_sequence = sequence + 1
                session.cached_bytes += len(outcome[1])
                self._cached_bytes += len(outcome[1])
                outcomes.append(outcome)
        # The session at work is the most recently active one, and alone it stays far below the total.
        while self._cached_bytes > CACHED_BYTES_TOTAL_MAX:
            self._evict()
        return outcomes

    def freeze(self) -> list[FrozenSession]:
        """The table as it is now, in its order; what is done to it later does not show."""
        return [
            (
                session.session_id,
                session.active_ms,
                session.next_sequence,
                session.acked,
                tuple(session.results.values()),
            )
            for session in self._sessions.values()
        ]

    def snapshot(self) -> list[list[object]]:
        """The table as a msgpack-able value, in its order."""
        return [
            [*fields, [[int(status), content] for status, content in results]] for *fields, results in self.freeze()
        ]

    def restore(self, state: object) -> None:
        """Become what `snapshot` described. Raises ApplicationStateError for anything else."""
        sessions: OrderedDict[int, Session] = OrderedDict()
        try:
            for fields in state:  # type: ignore[attr-defined]  # anything else is a TypeError, which is caught
                session = _restore_session(*fields)
                sessions[session.session_id] = session
        except (TypeError, ValueError) as error:
            raise ApplicationStateError(f"the snapshot's session table is malformed: {error}") from error
        self._sessions = sessions
        self._cached_bytes = sum(session.cached_bytes for session in sessions.values())

    def _touch(self, session_id: int, acked: int, now_ms: int) -> Session | None:
        session = self._sessions.get(session_id)
        if session is not None:
            session.active_ms = now_ms
            self._cached_bytes -= session.acknowledge(acked)
            self._sessions.move_to_end(session_id)
        return session

    def _out_of_turn(self, session: Session, sequence: int) -> Outcome:
        if sequence > session.next_sequence:
            return _OUT_OF_ORDER
        return session.results.get(sequence, _ALREADY_ACKED)

    def _evict(self) -> None:
        _, session = self._sessions.popitem(last=False)
        self._cached_bytes -= session.cached_bytes


def _restore_session(
    session_id: int, active_ms: int, next_sequence: int, acked: int, results: list[tuple[int, bytes]]
) -> Session:
    """Build a session from what `SessionTable.snapshot` wrote. Raises TypeError or ValueError for anything else."""
    session = Session(session_id, active_ms)
    session.next_sequence, session.acked = next_sequence, acked
    for sequence, (status, content) in zip(range(acked + 1, next_sequence), results, strict=True):
        if type(content) is not bytes:
            raise TypeError(f"a result of session {session_id} is {type(content).__name__}, not bytes")
        session.results[sequence] = int(ResultStatus(status)), content
        session.cached_bytes += len(content)
    return session
