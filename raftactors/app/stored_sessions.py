"""The progress of a replica as rows of an application's own store, written as changes only.

    "p"                              format u16, applied index u64, applied term u64, replicated time u64, digest u32
    "s" + session u64                active_ms u64, next sequence u64, acknowledged u64, turn u64
    "r" + session u64 + sequence u64 result status u8, content

Keys are big endian, values little endian. `turn` orders the sessions by their last activity, the most recent one has
the highest.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from raftactors.app.on_disk import Rows
from raftactors.app.sessions import Session, SessionTable
from raftactors.errors import WAY_OUT_OF_DAMAGE, ApplicationStateError

_FORMAT = 1
_PROGRESS_KEY = b"p"
_PROGRESS = struct.Struct("<HQQQI")
_SESSION = struct.Struct("<QQQQ")
_SESSION_KEY = struct.Struct(">cQ")
_RESULT_KEY = struct.Struct(">cQQ")


class Progress(NamedTuple):
    """How far the log is applied, and what follows from the log up to there beside state and sessions."""

    applied_index: int = 0
    applied_term: int = 0
    now_ms: int = 0
    digest: int = 0


class StoredSessionTable(SessionTable):
    """A session table that knows what changed since its rows were last written.

    Results are written once and removed when they are acknowledged, so a batch costs what it changes, however much the
    other sessions keep.
    """

    def __init__(self, *, sessions_max: int, session_ttl_ms: int, inflight_max: int) -> None:
        super().__init__(sessions_max=sessions_max, session_ttl_ms=session_ttl_ms, inflight_max=inflight_max)
        # A dict for its order: the sessions that were active later come later, as in the table itself.
        self._changed: dict[int, None] = {}
        self._written: dict[int, tuple[int, int]] = {}
        self._replaced: dict[bytes, bytes | None] = {}
        self._turn = 0

    def open(self, session_id: int, now_ms: int) -> None:
        super().open(session_id, now_ms)
        self._note(session_id)

    def close(self, session_id: int) -> None:
        super().close(session_id)
        self._note(session_id)

    def restore(self, state: object) -> None:
        super().restore(state)
        for session_id, (acked, next_sequence) in self._written.items():
            self._replaced[_SESSION_KEY.pack(b"s", session_id)] = None
            _remove_results(self._replaced, session_id, acked + 1, next_sequence)
        self._written.clear()
        self._changed = dict.fromkeys(self._sessions)

    def take_changes(self, progress: Progress) -> Rows:
        """The rows that changed since the last call, `progress` among them."""
        rows, self._replaced = self._replaced, {}
        for session_id in self._changed:
            self._remove_old(rows, session_id)
            session = self._sessions.get(session_id)
            if session is not None:
                self._put(rows, session)
        self._changed.clear()
        rows[_PROGRESS_KEY] = _PROGRESS.pack(_FORMAT, *progress)
        return rows

    def load(self, rows: Mapping[bytes, bytes]) -> Progress:
        """Become what the rows of all changes so far describe. Raises ApplicationStateError for anything else."""
        if not rows:
            return Progress()
        try:
            progress = _PROGRESS.unpack(rows[_PROGRESS_KEY])
            if progress[0] != _FORMAT:
                raise ValueError(f"format {progress[0]}, this version knows {_FORMAT}")
            sessions, results = _split(rows)
            turns: dict[int, int] = {}
            state: dict[int, list[object]] = {}
            for session_id, value in sessions.items():
                active_ms, next_sequence, acked, turns[session_id] = _SESSION.unpack(value)
                kept = [results.pop((session_id, sequence)) for sequence in range(acked + 1, next_sequence)]
                state[session_id] = [session_id, active_ms, next_sequence, acked, [[c[0], c[1:]] for c in kept]]
            if results:
                raise ValueError(f"{len(results)} results belong to no session")
        except (KeyError, IndexError, ValueError, struct.error) as error:
            raise ApplicationStateError(
                f"the application's store returned other rows than were committed: {type(error).__name__}: {error}; "
                + WAY_OUT_OF_DAMAGE
            ) from error
        self.restore([state[session_id] for session_id in sorted(state, key=turns.__getitem__)])
        self._changed.clear()
        self._written = {s.session_id: (s.acked, s.next_sequence) for s in self._sessions.values()}
        self._turn = max(turns.values(), default=0)
        return Progress(*progress[1:])

    def _touch(self, session_id: int, acked: int, now_ms: int) -> Session | None:
        session = super()._touch(session_id, acked, now_ms)
        if session is not None:
            self._note(session_id)
        return session

    def _evict(self) -> None:
        evicted = next(iter(self._sessions))
        super()._evict()
        self._note(evicted)

    def _note(self, session_id: int) -> None:
        self._changed.pop(session_id, None)
        self._changed[session_id] = None

    def _remove_old(self, rows: dict[bytes, bytes | None], session_id: int) -> None:
        """Remove the written rows that the session, if it still exists, no longer has."""
        written = self._written.get(session_id)
        if written is None:
            return
        acked, next_sequence = written
        session = self._sessions.get(session_id)
        if session is None:
            del self._written[session_id]
            rows[_SESSION_KEY.pack(b"s", session_id)] = None
            _remove_results(rows, session_id, acked + 1, next_sequence)
        else:
            _remove_results(rows, session_id, acked + 1, min(session.acked + 1, next_sequence))

    def _put(self, rows: dict[bytes, bytes | None], session: Session) -> None:
        self._turn += 1
        acked, next_sequence = session.acked, session.next_sequence
        _, written_next = self._written.get(session.session_id, (0, 0))
        rows[_SESSION_KEY.pack(b"s", session.session_id)] = _SESSION.pack(
            session.active_ms, next_sequence, acked, self._turn
        )
        for sequence in range(max(acked + 1, written_next), next_sequence):
            status, content = session.results[sequence]
            rows[_RESULT_KEY.pack(b"r", session.session_id, sequence)] = bytes((status,)) + content
        self._written[session.session_id] = (acked, next_sequence)


def _remove_results(rows: dict[bytes, bytes | None], session_id: int, start: int, stop: int) -> None:
    for sequence in range(start, stop):
        rows[_RESULT_KEY.pack(b"r", session_id, sequence)] = None


def _split(rows: Mapping[bytes, bytes]) -> tuple[dict[int, bytes], dict[tuple[int, int], bytes]]:
    """The rows of the sessions and those of their results. Raises ValueError for a key of neither."""
    sessions: dict[int, bytes] = {}
    results: dict[tuple[int, int], bytes] = {}
    for key, value in rows.items():
        if key[:1] == b"s" and len(key) == _SESSION_KEY.size:
            sessions[_SESSION_KEY.unpack(key)[1]] = value
        elif key[:1] == b"r" and len(key) == _RESULT_KEY.size:
            _, session_id, sequence = _RESULT_KEY.unpack(key)
            results[session_id, sequence] = value
        elif key != _PROGRESS_KEY:
            raise ValueError(f"a row with the key {key!r}")
    return sessions, results
