"""The application actor: what was applied is committed before anybody is told, and no snapshot before its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from raftactors.actors.application import ALONE_SLICES, REPLIES_BYTES_MAX, ApplicationActor
from raftactors.actors.mailbox import Batch, Lane, Mailbox
from raftactors.actors.messages import (
    AnswersFlow,
    AppliesDone,
    ApplyWork,
    ClientFrame,
    LeaderChanged,
    ReadsReady,
    Replies,
    SnapshotFrozen,
    TakeSnapshot,
)
from raftactors.actors.snapshot_trigger import SnapshotTrigger
from raftactors.app import Application, query
from raftactors.app.host import ApplicationHost
from raftactors.codec import frames
from raftactors.codec.frames import FrameKind, Level
from raftactors.codec.replies import ResultsReply, ResultStatus, RetryReply, decode_reply, encode_results
from raftactors.config import Limits
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import APPLY_THREAD, Entry
from raftactors.storage import MemoryFiles
from raftactors.storage.snapshots import SnapshotFolder

ANN, BEN = b"ann", b"ben"
SLICE_MS = Limits().query_slice_ms


class Asked(Application):
    """Queries that take the time and the room that they are told; `clock_s` is what their time is taken from."""

    def __init__(self) -> None:
        self.clock_s = 0.0
        self.executed = 0

    @query
    def think(self, milliseconds: int, size: int) -> bytes:
        self.executed += 1
        self.clock_s += milliseconds / 1000
        return bytes(size)


class RecordingHost(ApplicationHost):
    """A replica that notes what it is told, and what had left the actor by then."""

    def __init__(self, watched: list[Mailbox]) -> None:
        self.asked = Asked()
        super().__init__(self.asked, limits=Limits(), node_id=1)
        self.calls: list[tuple[str, int]] = []
        self.reply = b"done"
        self.replays = False
        self._watched = watched

    @property
    def is_replaying(self) -> bool:
        return self.replays

    def apply(self, entry: Entry, *, origin_incarnation: int) -> list[tuple[int, bytes]]:
        self._note(f"apply {entry.index}")
        super().apply(entry, origin_incarnation=origin_incarnation)
        return [(entry.index, self.reply)]

    def commit(self) -> None:
        self._note("commit")

    def close(self) -> None:
        self._note("close")

    def _note(self, call: str) -> None:
        self.calls.append((call, sum(mailbox.waiting() for mailbox in self._watched)))


class Rig:
    def __init__(self) -> None:
        self.consensus, self.gateway, monitor = (
            Mailbox(name, messages_max=10) for name in ("consensus", "gateway", "monitor")
        )
        self.host = RecordingHost([self.consensus, self.gateway])
        self.actor = ApplicationActor(
            Mailbox("application", messages_max=10),
            host=self.host,
            incarnation=1,
            consensus=self.consensus,
            gateway=self.gateway,
            monitor=monitor,
            snapshots=SnapshotFolder(MemoryFiles(), Path("/snap"), cluster_id=1),
            trigger=SnapshotTrigger(Limits(), index=0, tick_ms=50),
            limits=Limits(),
            clock=lambda: self.host.asked.clock_s,
        )

    def run(self, *messages: Any) -> None:
        self.actor.on_receive(Batch(list(messages)))

    def ask(self, *frames_of_connections: tuple[bytes, int, int, int, int]) -> None:
        """Let frames of queries come: connection, pending id, how many queries, milliseconds and bytes of each."""
        arrived = []
        for connection, pending_id, count, milliseconds, size in frames_of_connections:
            call = frames.encode_call("think", [milliseconds, size])
            body = frames.encode_queries(0, level=Level.LINEARIZABLE, queries=[call] * count)
            arrived.append(ClientFrame(pending_id, bytes((FrameKind.QUERIES,)) + body[8:], connection))
        self.run(ReadsReady(0, arrived))

    def answers(self) -> list[tuple[int, int]]:
        """What was answered since the last call: pending id and how many of its queries."""
        answered = []
        while not self.gateway.empty():
            for message in self.gateway.get().message.messages:
                assert isinstance(message, Replies)
                assert message.counted_bytes == sum(len(body) for _, body in message.replies)
                for pending_id, body in message.replies:
                    reply = decode_reply(body)
                    assert isinstance(reply, ResultsReply)
                    done = [status == ResultStatus.OK for status, _ in reply.results]
                    assert done == sorted(done, reverse=True)
                    answered.append((pending_id, sum(done)))
        return answered

    @property
    def goes_on(self) -> bool:
        """Whether the actor wants another turn, although nothing came."""
        return self.actor.mailbox.idle_timeout_s == 0.0

    def told(self) -> list[type]:
        return [type(message) for message in self.consensus.get().message.messages]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    def fail(name: str, error: BaseException) -> NoReturn:
        raise error

    # The real one ends the process, and the tests with it.
    monkeypatch.setattr("raftactors.actors.base.fail_stop", fail)
    return Rig()


def apply_work(index: int) -> ApplyWork:
    return ApplyWork(Message(MessageType.STORAGE_APPLY, to=APPLY_THREAD, entries=(Entry(1, index),)))


def test_one_commit_a_batch_before_anything_leaves(rig: Rig) -> None:
    rig.run(apply_work(1), apply_work(2))
    assert rig.host.calls == [("apply 1", 0), ("apply 2", 0), ("commit", 0)]
    assert (rig.consensus.waiting(), rig.gateway.waiting()) == (1, 1)
    rig.actor.on_stop()
    assert rig.host.calls[-1][0] == "close"


def test_no_snapshot_while_the_core_is_behind_the_application(rig: Rig) -> None:
    """Its membership at that index would be that of an earlier one."""
    rig.host.replays = True
    rig.run(apply_work(1), TakeSnapshot())
    assert rig.told() == [AppliesDone]
    rig.host.replays = False
    rig.run(apply_work(2))
    assert rig.told() == [AppliesDone, SnapshotFrozen]


def test_small_queries_are_answered_at_once(rig: Rig) -> None:
    rig.ask(*[(ANN, number, 1, 0, 10) for number in range(100)])
    assert rig.answers() == [(number, 1) for number in range(100)]
    assert not rig.goes_on


def test_slow_queries_give_way_after_a_slice(rig: Rig) -> None:
    rig.ask((ANN, 1, 1_000, 1, 10), (BEN, 2, 1, 1, 10))
    assert rig.answers() == [(1, SLICE_MS)]
    assert rig.goes_on
    rig.host.reply = encode_results(1, 1, 0, [])
    rig.run(apply_work(1))
    assert rig.answers() == [(1, 0), (2, 1)]  # First the reply to the command with that number.


def test_who_is_alone_may_go_on_for_longer_until_something_comes(rig: Rig) -> None:
    rig.ask((ANN, 1, 1_000, 1, 10))
    assert rig.answers() == [(1, ALONE_SLICES * SLICE_MS)]
    rig.actor.mailbox.tell(apply_work(1), Lane.STORAGE)
    rig.ask((ANN, 2, 1_000, 1, 10))
    assert rig.answers() == [(2, SLICE_MS)]


def test_one_with_slow_queries_does_not_keep_another_waiting(rig: Rig) -> None:
    rig.ask(*[(ANN, number, 100, 1, 10) for number in range(50)])
    rig.answers()
    rig.ask((BEN, 100, 1, 1, 10))
    assert rig.answers()[0] == (100, 1)


def test_large_results_wait_until_the_last_ones_were_taken(rig: Rig) -> None:
    frame_bytes_max = Limits().client_frame_bytes_max
    rig.ask(*[(ANN, number, 1_000, 0, 1_000) for number in range(10)])
    for _ in range(2):
        (message,) = rig.gateway.get().message.messages
        assert frame_bytes_max <= message.counted_bytes <= 2 * frame_bytes_max
        executed = rig.host.asked.executed
        assert not rig.goes_on
        rig.run()
        assert rig.host.asked.executed == executed
        rig.run(AnswersFlow(message.counted_bytes))
        assert rig.host.asked.executed > executed


def test_queries_of_a_held_connection_are_not_executed(rig: Rig) -> None:
    rig.run(AnswersFlow(0, held={ANN}))
    rig.ask((ANN, 1, 1, 0, 10), (BEN, 2, 1, 0, 10))
    assert rig.answers() == [(2, 1)]
    assert not rig.goes_on
    rig.run(AnswersFlow(0, released={ANN}))
    assert rig.answers() == [(1, 1)]


def test_queries_of_a_connection_that_is_gone_are_never_executed(rig: Rig) -> None:
    rig.run(AnswersFlow(0, held={ANN}))
    rig.ask((ANN, 1, 100, 0, 10))
    rig.run(AnswersFlow(0, gone={ANN}))
    rig.run()
    assert rig.host.asked.executed == 0


def test_a_change_of_leader_ends_what_waits(rig: Rig) -> None:
    """The gateway sends it back to the clients at the same time."""
    rig.run(AnswersFlow(0, held={ANN}))
    rig.ask((ANN, 1, 100, 0, 10))
    rig.run(LeaderChanged(2, 2), AnswersFlow(0, released={ANN}))
    assert rig.host.asked.executed == 0
    assert not rig.goes_on


def test_a_query_waits_for_its_index(rig: Rig) -> None:
    call = frames.encode_call("think", [0, 10])
    body = frames.encode_queries(0, level=Level.LINEARIZABLE, queries=[call])
    rig.run(ReadsReady(2, [ClientFrame(9, bytes((FrameKind.QUERIES,)) + body[8:], ANN)]), apply_work(1))
    assert rig.host.asked.executed == 0
    rig.run(apply_work(2))
    assert rig.host.asked.executed == 1


def test_results_of_commands_past_the_limit_are_to_be_asked_for_again(rig: Rig) -> None:
    """The sessions keep them; the replies of one batch could otherwise take any amount of memory."""
    rig.host.reply = bytes(250_000)
    rig.run(*[apply_work(index) for index in range(1, 101)])
    (message,) = rig.gateway.get().message.messages
    assert [pending_id for pending_id, _ in message.replies] == list(range(1, 101))
    assert message.counted_bytes <= REPLIES_BYTES_MAX + 250_000 + 100 * 50
    assert isinstance(decode_reply(message.replies[-1][1]), RetryReply)
    assert message.replies[0][1] == rig.host.reply
