"""The storage actor: one sync a batch, and nothing leaves before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from raftactors.actors.mailbox import Batch, Mailbox
from raftactors.actors.messages import AppendsDone, AppendWork, DiskSpace, Outbound
from raftactors.actors.storage import SPACE_RETRY_S, StorageActor
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import APPEND_THREAD, EMPTY_HARD_STATE, Entry, HardState
from raftactors.errors import DiskFullError
from raftactors.storage import Wal, WalBatch

ME = 1


class RecordingWal:
    """Stands for the log: remembers what it was given, and what had left the actor by then."""

    def __init__(self) -> None:
        self.appends: list[list[WalBatch]] = []
        self.left_before: list[int] = []
        self.watched: list[Mailbox] = []
        self.lacks_space = False
        self.is_used_up = False
        self.space_sought = 0

    def seek_space(self) -> None:
        self.space_sought += 1

    def append(self, batches: Sequence[WalBatch]) -> None:
        if self.is_used_up:
            self.lacks_space = True
            raise DiskFullError("no room")
        self.left_before.append(sum(mailbox.waiting() for mailbox in self.watched))
        self.appends.append(list(batches))


class Rig:
    def __init__(self, hard_state: HardState = EMPTY_HARD_STATE) -> None:
        self.wal = RecordingWal()
        self.now_s = 0.0
        self.consensus = Mailbox("consensus", messages_max=100)
        self.transport = Mailbox("transport", messages_max=100)
        self.snapshot_writer = Mailbox("snapshot_writer", messages_max=100)
        self.wal.watched = [self.consensus, self.transport]
        self.actor = StorageActor(
            Mailbox("storage", messages_max=100),
            node_id=ME,
            wal=cast(Wal, self.wal),
            hard_state=hard_state,
            consensus=self.consensus,
            transport=self.transport,
            snapshot_writer=self.snapshot_writer,
            clock=lambda: self.now_s,
        )

    def run(self, *messages: Message) -> None:
        self.actor.on_receive(Batch([AppendWork(message) for message in messages]))

    def sent(self) -> list[Message]:
        return [m for out in self.transport.get().message.messages for m in cast(Outbound, out).messages]


def append(
    *indexes: int, term: int = 0, vote: int = 0, commit: int = 0, responses: tuple[Message, ...] = ()
) -> Message:
    return Message(
        MessageType.STORAGE_APPEND,
        to=APPEND_THREAD,
        sender=ME,
        entries=tuple(Entry(1, index, b"x") for index in indexes),
        term=term,
        vote=vote,
        commit=commit,
        responses=responses,
    )


def reply(kind: MessageType, to: int, index: int = 0) -> Message:
    return Message(kind, to=to, sender=ME, term=1, index=index)


def test_everything_that_waits_goes_into_one_append() -> None:
    rig = Rig()
    rig.run(append(1), append(2, 3), append(4))
    assert [[len(batch.entries) for batch in batches] for batches in rig.wal.appends] == [[1, 2, 1]]


def test_no_response_leaves_before_its_append_returned() -> None:
    rig = Rig()
    vote = reply(MessageType.VOTE_RESP, to=2)
    rig.run(append(1, term=1, vote=2, responses=(vote, reply(MessageType.STORAGE_APPEND_RESP, to=ME))))
    assert rig.wal.left_before == [0]
    assert rig.sent() == [vote]
    (done,) = rig.consensus.get().message.messages
    assert isinstance(done, AppendsDone)
    assert len(done.messages) == 1


def test_responses_keep_the_order_of_their_work_and_own_ones_stay_here() -> None:
    rig = Rig()
    first, second = reply(MessageType.APP_RESP, to=2, index=1), reply(MessageType.APP_RESP, to=2, index=2)
    own = reply(MessageType.APP_RESP, to=ME, index=2)
    rig.run(append(1, responses=(first,)), append(2, responses=(own, second)))
    assert rig.sent() == [first, second]


def test_a_commit_index_alone_costs_no_sync_and_travels_with_the_next_batch() -> None:
    rig = Rig(HardState(1, 2, 5))
    rig.run(append(term=1, vote=2, commit=9))
    assert rig.wal.appends == []
    rig.run(append(10))
    assert rig.wal.appends == [[WalBatch(HardState(1, 2, 9), (Entry(1, 10, b"x"),), None)]]


def test_a_new_term_or_vote_is_written_at_once() -> None:
    rig = Rig(HardState(1, 0, 0))
    rig.run(append(term=1, vote=3))
    rig.run(append(term=2))
    assert [[batch.hard_state for batch in batches] for batches in rig.wal.appends] == [
        [HardState(1, 3, 0)],
        [HardState(2, 0, 0)],
    ]


def test_an_unchanged_hard_state_is_not_written_again() -> None:
    rig = Rig(HardState(1, 2, 5))
    rig.run(append(6, term=1, vote=2, commit=5))
    assert rig.wal.appends[0][0].hard_state is None


def test_a_clean_stop_writes_the_commit_index_that_no_batch_carried() -> None:
    rig = Rig(HardState(1, 2, 5))
    rig.run(append(term=1, vote=2, commit=9))
    rig.actor.on_stop()
    assert rig.wal.appends == [[WalBatch(HardState(1, 2, 9), ())]]


def test_a_full_disk_is_told_once_and_votes_are_still_written() -> None:
    rig = Rig()
    rig.wal.lacks_space = True
    rig.run(append(1, term=1, vote=2))
    rig.run(append(term=2, vote=3, responses=(reply(MessageType.VOTE_RESP, to=3),)))
    assert len(rig.wal.appends) == 2
    assert [m.type for m in rig.sent()] == [MessageType.VOTE_RESP]
    told = rig.consensus.get().message.messages
    assert [m for m in told if isinstance(m, DiskSpace)] == [DiskSpace(is_full=True)]


def test_what_does_not_fit_a_full_disk_waits_unanswered_and_in_order_until_there_is_room() -> None:
    rig = Rig()
    rig.wal.is_used_up = True
    first, second = reply(MessageType.APP_RESP, to=2, index=1), reply(MessageType.VOTE_RESP, to=3)
    rig.run(append(1, responses=(first,)))
    rig.run(append(term=2, vote=3, responses=(second,)))
    assert rig.transport.empty()
    assert rig.consensus.get().message.messages == [DiskSpace(is_full=True)]
    rig.wal.is_used_up = rig.wal.lacks_space = False
    rig.now_s += SPACE_RETRY_S
    rig.run()
    assert [len(batches) for batches in rig.wal.appends] == [2]
    assert rig.sent() == [first, second]
    done, space = rig.consensus.get().message.messages
    assert isinstance(done, AppendsDone)
    assert len(done.messages) == 2
    assert space == DiskSpace(is_full=False)


def test_space_is_sought_once_a_period_and_no_more_when_it_is_there() -> None:
    rig = Rig()
    rig.wal.lacks_space = True
    rig.run(append(1))
    for _ in range(5):
        rig.run()
    assert rig.wal.space_sought == 0
    rig.now_s += SPACE_RETRY_S
    for _ in range(5):
        rig.run()
    assert rig.wal.space_sought == 1
    rig.wal.lacks_space = False
    rig.now_s += SPACE_RETRY_S
    rig.run()
    rig.now_s += SPACE_RETRY_S
    rig.run()
    assert rig.wal.space_sought == 2
    assert rig.actor.mailbox.idle_timeout_s is None


def test_a_stop_while_entries_wait_for_room_writes_no_commit_index_beyond_them() -> None:
    rig = Rig(HardState(1, 2, 5))
    rig.wal.is_used_up = True
    rig.run(append(6, commit=6, term=1, vote=2))
    rig.wal.is_used_up = False
    rig.actor.on_stop()
    assert rig.wal.appends == []
