"""Snapshot transfers: what each side says and does, and that no interruption leaves a part of a snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftactors.actors import snapshot_intake as intake_module
from raftactors.actors.snapshot_intake import SnapshotIntake
from raftactors.actors.snapshot_sender import SnapshotSender, Throttle
from raftactors.codec.snapshots import (
    Abort,
    Accept,
    Chunk,
    Credit,
    Finished,
    Offer,
    Outcome,
    Restart,
    SnapshotFrame,
)
from raftactors.config import Limits
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import ConfState, Snapshot
from raftactors.errors import CorruptSnapshotError
from raftactors.storage import MemoryFiles
from raftactors.storage import snapshot_receiving as receiving_module
from raftactors.storage.files import FileSystem
from raftactors.storage.snapshot_file import SnapshotHeader, encode_trailer
from raftactors.storage.snapshot_receiving import SnapshotReceiver
from raftactors.storage.snapshots import SnapshotFolder

from .interrupted_transfers import run_many

SNAP = Path("/snap")
LIMITS = Limits(snapshot_chunk_bytes=256, snapshot_timeout_ms=1_000)
CHUNKS = 20
CONTENT = bytes(range(256)) * CHUNKS
MEMBERS = ConfState((1, 2), (), (3, 4, 5))


def new_folder() -> SnapshotFolder:
    files = MemoryFiles()
    files.mkdir(SNAP)
    return SnapshotFolder(files, SNAP, cluster_id=5)


def folder_with(*snapshots: Snapshot, content: bytes = CONTENT) -> SnapshotFolder:
    folder = new_folder()
    for snapshot in snapshots:
        folder.save(SnapshotHeader(5, snapshot, 2, 256), [content])
    return folder


def snap(to: int, snapshot: Snapshot, term: int = 4) -> Message:
    return Message(MessageType.SNAP, to, 1, term, snapshot=snapshot)


class SendingSide:
    def __init__(self, folder: SnapshotFolder, limits: Limits = LIMITS) -> None:
        self.sent: list[tuple[int, SnapshotFrame]] = []
        self.reports: list[tuple[int, bool]] = []
        self.damaged: list[int] = []
        self.connected = True
        self.sender = SnapshotSender(
            folder=folder,
            limits=limits,
            send=self._send,
            on_report=lambda node_id, arrived: self.reports.append((node_id, arrived)),
            on_damaged=self.damaged.append,
            now_s=0.0,
        )

    def _send(self, to: int, frame: SnapshotFrame) -> bool:
        if self.connected:
            self.sent.append((to, frame))
        return self.connected

    def took(self, kind: type) -> list[SnapshotFrame]:
        found = [frame for _, frame in self.sent if isinstance(frame, kind)]
        self.sent = [(to, frame) for to, frame in self.sent if not isinstance(frame, kind)]
        return found


class TakingSide:
    def __init__(self, folder: SnapshotFolder | None = None, limits: Limits = LIMITS) -> None:
        self.folder = new_folder() if folder is None else folder
        self.said: list[SnapshotFrame] = []
        self.arrived: list[Message] = []
        self.intake = SnapshotIntake(
            folder=self.folder,
            node_id=3,
            limits=limits,
            send=self._say,
            on_arrived=self.arrived.append,
        )

    def _say(self, to: int, frame: SnapshotFrame) -> bool:
        self.said.append(frame)
        return True

    def take(self, *frames: SnapshotFrame, sender: int = 1, now_s: float = 0.0) -> list[SnapshotFrame]:
        self.said.clear()
        for frame in frames:
            self.intake.take_frame(sender, frame, now_s)
        return list(self.said)


ONE = Snapshot(50, 3, MEMBERS)
TWO = Snapshot(60, 3, MEMBERS)


def offered(folder: SnapshotFolder, snapshot: Snapshot = ONE, term: int = 4) -> tuple[Offer, list[Chunk]]:
    """What a leader says of a snapshot, and its chunks."""
    side = SendingSide(folder)
    side.sender.take(snap(3, snapshot, term), 0.0)
    (offer,) = side.took(Offer)
    assert isinstance(offer, Offer)
    reader = folder.reader(snapshot.term, snapshot.index)
    chunks = [Chunk(offer.transfer, number, reader.record(number)) for number in range(reader.trailer.chunks)]
    reader.close()
    return offer, chunks


# --- the sender -------------------------------------------------------------------------------------------------------


def test_no_more_chunks_are_under_way_than_the_window_allows() -> None:
    folder = folder_with(ONE)
    side, there = SendingSide(folder), TakingSide()
    side.sender.take(snap(3, ONE), 0.0)
    (offer,) = side.took(Offer)
    (accept,) = there.take(offer)
    side.sender.take_frame(3, accept, 0.0)
    side.sender.poll(0.0)
    chunks = side.took(Chunk)
    assert len(chunks) == LIMITS.snapshot_window_chunks == 4
    side.sender.poll(0.0)
    assert side.took(Chunk) == []
    for answer in there.take(*chunks[:2]):
        side.sender.take_frame(3, answer, 0.0)
    side.sender.poll(0.0)
    assert len(side.took(Chunk)) == 2
    assert side.sender.progress() == [
        {"to": 3, "index": 50, "sent_chunks": 2, "chunks": CHUNKS, "bytes": side.sender.progress()[0]["bytes"]}
    ]


def test_two_transfers_at_a_time_the_others_wait_their_turn() -> None:
    side = SendingSide(folder_with(ONE))
    for node_id in (3, 4, 5):
        side.sender.take(snap(node_id, ONE), 0.0)
    assert [to for to, _ in side.sent] == [3, 4]
    side.sender.take_frame(3, Finished(1, Outcome.ARRIVED), 0.0)
    side.sender.poll(0.0)
    assert [to for to, frame in side.sent if isinstance(frame, Offer)] == [3, 4, 5]
    assert side.reports == [(3, True)]


def test_every_transfer_is_reported_whatever_becomes_of_it() -> None:
    side = SendingSide(folder_with(ONE))
    for node_id in (3, 4, 5):
        side.sender.take(snap(node_id, ONE), 0.0)
    side.sender.take_frame(3, Finished(1, Outcome.DISK), 0.0)
    side.sender.cancel(before_term=5)
    assert sorted(side.reports) == [(3, False), (4, False), (5, False)]
    assert [frame for _, frame in side.sent if isinstance(frame, Abort)] == [Abort(2)]


def test_a_transfer_without_progress_is_offered_again_and_then_given_up() -> None:
    side = SendingSide(folder_with(ONE))
    side.connected = False
    side.sender.take(snap(3, ONE), 0.0)
    side.connected = True
    side.sender.poll(0.1)
    assert len(side.took(Offer)) == 1, "at once when there is a connection again"
    side.sender.poll(0.2)
    assert side.took(Offer) == []
    side.sender.poll(0.5)
    assert len(side.took(Offer)) == 1
    side.sender.poll(1.1)
    assert side.reports == [(3, False)]


def test_the_same_snapshot_is_not_started_twice_and_a_newer_one_takes_its_place() -> None:
    side = SendingSide(folder_with(ONE, TWO))
    side.sender.take(snap(3, ONE), 0.0)
    side.sender.take(snap(3, ONE), 0.0)
    assert len(side.took(Offer)) == 1
    side.sender.take(snap(3, TWO), 0.0)
    assert side.took(Abort) == [Abort(1)]
    (offer,) = side.took(Offer)
    assert offer.transfer == 2
    assert side.reports == [], "the core waits for the later one only"


def test_a_damaged_or_missing_file_is_reported_and_a_new_snapshot_asked_for() -> None:
    folder = folder_with(ONE)
    files = folder.files
    assert isinstance(files, MemoryFiles)
    path = SNAP / SnapshotHeader(5, ONE, 2, 256).name
    content = bytearray(files.content(path))
    content[5_000] ^= 4
    files.overwrite(path, bytes(content))
    side = SendingSide(folder)
    side.sender.take(snap(3, ONE), 0.0)
    (offer,) = side.took(Offer)
    assert isinstance(offer, Offer)
    there = TakingSide()
    side.sender.take_frame(3, there.take(offer)[0], 0.0)
    for now_s in (0.0, 0.1, 0.2):
        side.sender.poll(now_s)
        for chunk in side.took(Chunk):
            for answer in there.take(chunk):
                side.sender.take_frame(3, answer, now_s)
    assert (side.reports, side.damaged) == ([(3, False)], [50])
    side.sender.take(snap(3, TWO), 0.0)
    assert (side.reports, side.damaged) == ([(3, False), (3, False)], [50, 60])
    assert there.arrived == []


def test_the_rate_is_kept_on_average() -> None:
    throttle, passed, now_s = Throttle(1_000_000, 0.0), 0, 0.0
    while now_s < 10.0:
        while throttle.open(now_s):
            throttle.passed(64 * 1024)
            passed += 64 * 1024
        now_s += 0.05
    assert 9_500_000 < passed < 10_500_000


# --- the receiver -----------------------------------------------------------------------------------------------------


def test_a_snapshot_that_is_whole_is_handed_over() -> None:
    offer, chunks = offered(folder_with(ONE))
    there = TakingSide()
    assert isinstance(there.take(offer)[0], Accept)
    said = there.take(*chunks[:-1])
    assert said == [Credit(offer.transfer, number) for number in range(1, CHUNKS)]
    assert there.arrived == []
    assert there.intake.progress() is not None
    assert there.take(chunks[-1])[-1] == Finished(offer.transfer, Outcome.ARRIVED)
    assert there.arrived == [Message(MessageType.SNAP, 3, 1, 4, snapshot=ONE)]
    assert there.intake.progress() is None
    assert there.take(offer) == [Finished(offer.transfer, Outcome.ARRIVED)], "it is here: nothing moves again"


def test_a_transfer_goes_on_with_what_is_held_also_for_another_leader() -> None:
    offer, chunks = offered(folder_with(ONE))
    there = TakingSide()
    there.take(offer, *chunks[:7])
    other, _ = offered(folder_with(ONE), term=5)
    (accept,) = there.take(other._replace(transfer=9), sender=2)
    assert isinstance(accept, Accept)
    assert accept.next == 7
    assert there.take(*chunks[7:]) == [], "the former leader is not listened to any more"
    there.take(*(chunk._replace(transfer=9) for chunk in chunks[7:]), sender=2)
    assert [message.term for message in there.arrived] == [5]


def test_what_is_held_of_other_bytes_is_given_up() -> None:
    offer, chunks = offered(folder_with(ONE, content=b"x" * len(CONTENT)))
    there = TakingSide()
    there.take(offer, *chunks[:7])
    side = SendingSide(folder_with(ONE))
    side.sender.take(snap(3, ONE, term=5), 0.0)
    (other,) = side.took(Offer)
    (accept,) = there.take(other)
    side.sender.take_frame(3, accept, 0.0)
    assert side.took(Restart) == [Restart(1)]
    (accept,) = there.take(Restart(1))
    assert isinstance(accept, Accept)
    assert accept.next == 0
    for now_s in range(CHUNKS):
        side.sender.take_frame(3, accept, 0.0)
        side.sender.poll(0.0)
        answers = there.take(*side.took(Chunk), now_s=now_s / 100)
        for answer in answers:
            side.sender.take_frame(3, answer, 0.0)
        accept = Accept(99, 0, b"")
    assert side.reports == [(3, True)]
    reader = there.folder.reader(3, 50)
    assert b"".join(map(bytes, reader.chunks())) == CONTENT


def test_competing_snapshots() -> None:
    """Two in a short time, as in etcd #18055: the newer one is taken, and nothing is left of the older."""
    folder = folder_with(ONE, TWO)
    first, first_chunks = offered(folder)
    second, second_chunks = offered(folder, TWO)
    second = second._replace(transfer=2)
    there = TakingSide()
    there.take(first, *first_chunks[:5])
    there.take(second)
    assert there.take(*first_chunks[5:]) == []
    there.take(*(chunk._replace(transfer=2) for chunk in second_chunks))
    assert [message.snapshot for message in there.arrived] == [TWO]
    assert there.folder.files.listdir(SNAP) == [SnapshotHeader(5, TWO, 2, 256).name]
    # The older one all over again, late: it arrives, and the core will see that it brings nothing new.
    there.take(first, *first_chunks)
    assert [message.snapshot for message in there.arrived] == [TWO, ONE]


def test_offers_that_make_no_sense_are_refused() -> None:
    folder = folder_with(ONE)
    good, _ = offered(folder)
    there = TakingSide()
    there.intake.term = 4

    def outcome(offer: Offer, side: TakingSide = there) -> Outcome:
        (finished,) = side.take(offer)
        assert isinstance(finished, Finished)
        return finished.outcome

    assert outcome(good._replace(term=3)) is Outcome.STALE
    assert outcome(good._replace(chunks=CHUNKS + 1)) is Outcome.MALFORMED
    assert outcome(good._replace(content_bytes=1)) is Outcome.MALFORMED
    assert outcome(good._replace(header_block=bytes(4096))) is Outcome.MALFORMED
    foreign = SnapshotFolder(MemoryFiles(), SNAP, cluster_id=6)
    foreign.files.mkdir(SNAP)
    assert outcome(good, TakingSide(foreign)) is Outcome.MALFORMED
    stranger = Snapshot(50, 3, ConfState((1, 2)))
    assert outcome(offered(folder_with(stranger), stranger)[0]) is Outcome.MALFORMED
    future = Snapshot(50, 9, MEMBERS)
    assert outcome(offered(folder_with(future), future)[0]) is Outcome.MALFORMED
    small = Limits(snapshot_chunk_bytes=256, snapshot_file_bytes_max=5_000)
    assert outcome(good, TakingSide(limits=small)) is Outcome.TOO_LARGE
    there.take(good)
    (refused,) = there.take(good._replace(transfer=3), sender=2)
    assert refused == Finished(3, Outcome.BUSY), "two leaders of one term cannot be"
    assert there.folder.files.listdir(SNAP) == [f"{SnapshotHeader(5, ONE, 2, 256).name}.part"]


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_interrupted_transfers_complete_and_leave_no_part() -> None:
    met = run_many(range(60))
    assert met["transfers"] == 60
    assert len(met) == 12, f"not everything befell them: {met}"


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_many_interrupted_transfers() -> None:
    assert run_many(range(10_000, 15_000))["transfers"] == 5_000


def test_a_receiver_that_names_the_file_too_early_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish_at_once(files: FileSystem, temporary: Path, target: Path, header: SnapshotHeader) -> None:
        files.rename(temporary, target)

    monkeypatch.setattr(receiving_module, "publish", publish_at_once)
    monkeypatch.setattr(MemoryFiles, "fsync", lambda self, descriptor: None)
    with pytest.raises(AssertionError, match="partial install"):
        run_many(range(200))


def test_a_receiver_that_checks_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """One check alone may be left out unnoticed, since the chunks, the whole and the file read back have one each."""

    def finish(receiver: SnapshotReceiver) -> Snapshot:
        files, name = receiver._files, receiver.header.name
        files.pwrite(receiver._descriptor, encode_trailer(receiver.trailer), receiver._offset(receiver.next))
        files.fsync(receiver._descriptor)
        receiver.close()
        files.rename(receiver._path, receiver._folder.path / name)
        return receiver.header.snapshot

    monkeypatch.setattr(receiving_module, "chunk_fault", lambda *arguments: "")
    monkeypatch.setattr(SnapshotReceiver, "finish", finish)
    with pytest.raises((AssertionError, CorruptSnapshotError)):
        run_many(range(200))


def test_a_transfer_that_never_ends_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module.SnapshotIntake, "_finish", lambda self, arrival: None)
    with pytest.raises(AssertionError, match="not complete"):
        run_many(range(3))
