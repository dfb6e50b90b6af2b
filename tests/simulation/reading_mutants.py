"""Bugs of reads, sessions and the state machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytest import MonkeyPatch

from raftactors.app.host import ApplicationHost
from raftactors.app.kv import KeyValue
from raftactors.app.sessions import Outcome, SessionTable
from raftactors.codec import replies
from raftactors.codec.frames import Commands, FrameKind, decode_commands
from raftactors.codec.msgpack import pack
from raftactors.core import leader, replication
from raftactors.core.messages import Message
from raftactors.core.raft import Raft
from raftactors.core.read_only import read_context
from raftactors.core.tracker import Tracker
from raftactors.core.types import Entry
from raftactors.testing.simulation.process import Process
from tests.simulation.mutant import CaughtBy, mutant


@mutant("a leader answers reads without asking a quorum (thesis 6.4)")
def read_without_quorum(patch: MonkeyPatch) -> None:
    patch.setattr(leader, "_confirm_read", lambda raft, message: leader._answer_read(raft, message, raft.log.committed))


@mutant("a new leader answers reads before it has committed in its term (etcd #20418 is a relative)")
def read_before_own_commit(patch: MonkeyPatch) -> None:
    patch.setattr(Raft, "has_committed_in_term", lambda self: True)


@mutant("a single voter that has just started answers reads with the commit index it found (etcd's raft does)")
def single_voter_reads_at_once(patch: MonkeyPatch) -> None:
    patch.setattr(Process, "_may_read", lambda self: True)


@mutant("a leader goes on for ever although it hears of no quorum, and so does its lease", caught_by=CaughtBy.TRACES)
def lease_for_ever(patch: MonkeyPatch) -> None:
    patch.setattr(Tracker, "quorum_active", lambda self: True)


@mutant("any single answer to a heartbeat confirms a read")
def read_confirmed_by_one(patch: MonkeyPatch) -> None:
    def answer(raft: Raft, message: Message) -> None:
        committed = raft.log.committed
        context = read_context(message)
        raft.read_only.add(message, committed)
        for voter in raft.tracker.voter_ids[: len(raft.tracker.voter_ids) // 2]:
            raft.read_only.acknowledge(context, voter)
        replication.broadcast_heartbeat(raft, context)

    patch.setattr(leader, "_confirm_read", answer)


@mutant("a read is answered before its index is applied")
def read_before_apply(patch: MonkeyPatch) -> None:
    def answer(self: Process) -> None:
        applied = self.host.applied_index
        while self._answerable:
            for frame in self._answerable.popleft()[1]:
                self._answer(frame.pending_id, self.host.query(applied, memoryview(frame.payload)[1:]))

    patch.setattr(Process, "_answer_reads", answer)


@mutant("commands are executed as often as they arrive")
def commands_not_deduplicated(patch: MonkeyPatch) -> None:
    def execute(
        self: SessionTable, frame: Commands, now_ms: int, run: Callable[[memoryview], Outcome]
    ) -> list[Outcome]:
        self._touch(frame.session, frame.acked, now_ms)
        return [run(command) for command in frame.commands]

    patch.setattr(SessionTable, "execute", execute)


@mutant("snapshots leave the session table out (thesis 6.3)")
def sessions_not_in_snapshot(patch: MonkeyPatch) -> None:
    patch.setattr(SessionTable, "freeze", lambda self: [])


@mutant("an expired session begins anew instead of being refused")
def expired_session_revived(patch: MonkeyPatch) -> None:
    right = SessionTable._touch

    def touch(self: SessionTable, session_id: int, acked: int, now_ms: int) -> object:
        if session_id not in self:
            self.open(session_id, now_ms)
        return right(self, session_id, acked, now_ms)

    patch.setattr(SessionTable, "_touch", touch)


@mutant("sessions expire by the clock of each node (RELIABILITY A6)")
def sessions_expire_by_own_clock(patch: MonkeyPatch) -> None:
    right = ApplicationHost._begin

    def begin(self: ApplicationHost, entry: Entry, timestamp_ms: int) -> None:
        right(self, entry, timestamp_ms + 200 * self._node_id if timestamp_ms else 0)

    patch.setattr(ApplicationHost, "_begin", begin)


@mutant("a snapshot brings the applied index and not the state (etcd 3.5, #13766)")
def index_without_state(patch: MonkeyPatch) -> None:
    def restore(self: KeyValue, pieces: Iterable[object]) -> None:
        for _ in pieces:
            continue

    patch.setattr(KeyValue, "restore_pieces", restore)


@mutant("a command is answered when it is proposed, not when it is applied")
def reply_before_apply(patch: MonkeyPatch) -> None:
    right = Process.take

    def take(self: Process, client: int, request: int, kind: int, rest: bytes) -> None:
        right(self, client, request, kind, rest)
        if kind == FrameKind.COMMANDS and self.soft.leader_id == self.node_id:
            frame = decode_commands(rest)
            outcomes = [(0, pack(True))] * len(frame.commands)
            body = replies.encode_results(self.raw.raft.log.last_index(), 0, frame.first_sequence, outcomes)
            self._answer(self._pending_id, body)

    patch.setattr(Process, "take", take)


@mutant("an answer to a repeated command is computed afresh instead of being remembered")
def repeated_command_answered_empty(patch: MonkeyPatch) -> None:
    right = SessionTable._out_of_turn

    def answer(self: SessionTable, session: object, sequence: int) -> Outcome:
        status, content = right(self, session, sequence)  # type: ignore[arg-type]
        return (status, content) if status else (0, b"\xc0")

    patch.setattr(SessionTable, "_out_of_turn", answer)
