"""The session rules once more, in the dullest way: which command of the log is executed, and when."""

from __future__ import annotations

from typing import NamedTuple

from raftactors.codec.frames import Commands
from raftactors.config import Limits


class _Session:
    def __init__(self, now_ms: int) -> None:
        self.active_ms = now_ms
        self.next_sequence = 1
        self.acked = 0


class Due(NamedTuple):
    """A command that is executed now, and the name under which its outcome is known."""

    session: int
    sequence: int
    command: memoryview


class SessionModel:
    """Decides from the log alone, as thesis section 6.3 says; `sessions` is ordered by the last sign of life."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._now_ms = 0
        self.sessions: dict[int, _Session] = {}

    @property
    def now_ms(self) -> int:
        """Replicated time."""
        return self._now_ms

    def advance_clock(self, stamp_ms: int) -> None:
        """Take the time stamp of a batch over, and forget who was silent for too long."""
        if stamp_ms <= self._now_ms:
            return
        self._now_ms = stamp_ms
        silent = [
            name
            for name, session in self.sessions.items()
            if stamp_ms - session.active_ms > self._limits.session_ttl_ms
        ]
        for name in silent:
            del self.sessions[name]

    def open(self, name: int) -> None:
        """A session begins; the ones that were silent longest make room."""
        while len(self.sessions) >= self._limits.sessions_max:
            del self.sessions[next(iter(self.sessions))]
        self.sessions[name] = _Session(self._now_ms)

    def close(self, name: int) -> None:
        """A session ends."""
        self.sessions.pop(name, None)

    def touch(self, name: int, acked: int) -> _Session | None:
        """A sign of life; None if the session is gone."""
        session = self.sessions.pop(name, None)
        if session is not None:
            session.active_ms = self._now_ms
            session.acked = max(session.acked, min(acked, session.next_sequence - 1))
            self.sessions[name] = session
        return session

    def due(self, frame: Commands) -> list[Due]:
        """The commands of a frame that are executed."""
        if not frame.session:
            return [Due(0, 0, command) for command in frame.commands]
        session = self.touch(frame.session, frame.acked)
        if session is None:
            return []
        due = []
        for sequence, command in enumerate(frame.commands, frame.first_sequence):
            room = session.next_sequence - 1 - session.acked < self._limits.session_inflight_max
            if sequence == session.next_sequence and room:
                session.next_sequence += 1
                due.append(Due(frame.session, sequence, command))
        return due
