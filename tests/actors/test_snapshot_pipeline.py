"""Application, snapshot writer and storage together: from the freeze to the purge of the log."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

from raftactors.actors.application import ApplicationActor
from raftactors.actors.mailbox import Batch, Mailbox
from raftactors.actors.messages import (
    AdminRequest,
    AppendWork,
    AppliesDone,
    ApplyWork,
    Replies,
    SaveSnapshot,
    SnapshotEnded,
    SnapshotFrozen,
    SnapshotRead,
    SnapshotRecorded,
    SnapshotSaved,
    SnapshotTaken,
)
from raftactors.actors.snapshot_trigger import SnapshotTrigger
from raftactors.actors.snapshot_writer import SnapshotWriterActor
from raftactors.actors.storage import StorageActor
from raftactors.app.host import ApplicationHost
from raftactors.app.kv import KeyValue
from raftactors.codec.replies import DocumentReply, RejectedReply, decode_reply
from raftactors.config import Limits
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import (
    ConfState,
    Entry,
    HardState,
    Snapshot,
)
from raftactors.storage import MemoryFiles, open_data_dir
from raftactors.storage.snapshots import SnapshotFolder

MEMBERS = ConfState((1, 2, 3))


def took(box: Mailbox) -> list[Any]:
    return [] if box.empty() else list(box.get().message.messages)


def only(kind: type, messages: list[Any]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


class Pipeline:
    """Those three actors on a disk in memory; the test is the consensus actor between them."""

    def __init__(self, **limits: int) -> None:
        self.limits = Limits(snapshot_chunk_bytes=256, segment_bytes=16 * 1024, **limits)
        self.files = MemoryFiles()
        data = Path("/node")
        self.opened = open_data_dir(
            data,
            cluster_id=7,
            node_id=1,
            segment_bytes=16_384,
            files=self.files,
            random_bytes=random.Random(1).randbytes,
        )
        self.folder = SnapshotFolder(self.files, data / "snap", cluster_id=7)
        names = ("application", "consensus", "gateway", "monitor", "storage", "transport", "writer")
        self.boxes = {name: Mailbox(name, messages_max=1_000) for name in names}
        self.host = ApplicationHost(KeyValue(), limits=self.limits, node_id=1)
        box = self.boxes
        self.application = ApplicationActor(
            box["application"],
            host=self.host,
            incarnation=1,
            consensus=box["consensus"],
            gateway=box["gateway"],
            monitor=box["monitor"],
            snapshots=self.folder,
            trigger=SnapshotTrigger(self.limits, index=0, tick_ms=50),
            limits=self.limits,
        )
        self.storage = StorageActor(
            box["storage"],
            node_id=1,
            wal=self.opened.wal,
            hard_state=HardState(),
            consensus=box["consensus"],
            transport=box["transport"],
            snapshot_writer=box["writer"],
        )
        self.writer = SnapshotWriterActor(
            box["writer"],
            folder=self.folder,
            wal_folder=self.opened.wal.folder,
            limits=self.limits,
            storage=box["storage"],
            consensus=box["consensus"],
            application=box["application"],
            monitor=box["monitor"],
        )
        self.index = 0

    def run(self, actor: Any, *messages: Any) -> None:
        actor.on_receive(Batch(list(messages)))

    def commit(self, count: int, size: int = 400) -> None:
        """Append and apply entries."""
        made = tuple(
            Entry(1, self.index + 1 + i, None) if i % 2 else Entry(1, self.index + 1 + i, b"") for i in range(count)
        )
        made = tuple(entry._replace(data=None) for entry in made)
        self.index += count
        append = Message(MessageType.STORAGE_APPEND, entries=made, term=1, vote=1, commit=self.index)
        padding = [Entry(1, entry.index, bytes(size)) for entry in made]
        self.run(self.storage, AppendWork(append._replace(entries=tuple(padding))))
        self.run(self.application, ApplyWork(Message(MessageType.STORAGE_APPLY, entries=made)))

    def consensus(self, kind: type) -> list[Any]:
        return only(kind, took(self.boxes["consensus"]))

    def save(self) -> SnapshotTaken:
        """Bring a frozen replica to its end; returns what consensus hears."""
        (frozen,) = self.consensus(SnapshotFrozen)
        snapshot = Snapshot(frozen.replica.index, frozen.replica.term, MEMBERS)
        self.run(self.writer, SaveSnapshot(snapshot, frozen.replica.content))
        assert took(self.boxes["application"]) == [SnapshotRead()]
        (saved,) = took(self.boxes["storage"])
        assert isinstance(saved, SnapshotSaved)
        self.run(self.storage, saved)
        (recorded,) = took(self.boxes["writer"])
        assert isinstance(recorded, SnapshotRecorded)
        self.run(self.writer, recorded)
        (taken,) = self.consensus(SnapshotTaken)
        (ended,) = took(self.boxes["application"])
        self.run(self.application, SnapshotRead(), ended)
        assert isinstance(taken, SnapshotTaken)
        return taken

    def answers(self) -> list[Any]:
        return [
            decode_reply(body) for replies in only(Replies, took(self.boxes["gateway"])) for _, body in replies.replies
        ]


def test_snapshots_let_the_log_go_and_a_start_finds_them() -> None:
    line = Pipeline(snapshot_entries=20)
    for _ in range(6):
        line.commit(20)
        assert line.save().snapshot.index == line.index
    assert [summary.index for summary in line.folder.listing()] == [100, 120]
    segments = [name for name in line.files.listdir(line.opened.wal.folder) if name.endswith(".wal")]
    assert int(segments[0].partition("-")[0], 16) > 1
    line.opened.close()
    opened = open_data_dir(Path("/node"), cluster_id=7, node_id=1, segment_bytes=16_384, files=line.files)
    chosen = line.folder.choose(opened)
    assert chosen == Snapshot(120, 1, MEMBERS)
    host = ApplicationHost(KeyValue(), limits=line.limits, node_id=1)
    reader = line.folder.reader(1, 120)
    host.restore_from(reader.chunks())
    assert host.state_digest() == line.host.state_digest()


def test_one_that_is_asked_for_is_answered_when_it_counts() -> None:
    line = Pipeline()
    line.commit(3)
    line.consensus(AppliesDone)
    line.run(line.application, AdminRequest(8, "snapshot", ()))
    assert line.answers() == []
    line.save()
    (answer,) = line.answers()
    assert isinstance(answer, DocumentReply)
    document = cast("dict[str, Any]", answer.document)
    assert (document["index"], document["term"], document["bytes"] > 4_096) == (3, 1, True)


def test_a_full_disk_ends_the_snapshot_and_not_the_node() -> None:
    line = Pipeline(snapshot_entries=2)
    line.commit(2)
    line.run(line.application, AdminRequest(8, "snapshot", ()))
    (frozen,) = line.consensus(SnapshotFrozen)
    line.files.fail("pwrite", nth=1, error=28)
    line.run(line.writer, SaveSnapshot(Snapshot(2, 1, MEMBERS), frozen.replica.content))
    heard = took(line.boxes["application"])
    line.run(line.application, *heard)
    assert [message for message in heard if isinstance(message, SnapshotEnded) and "space" in message.error]
    assert line.folder.files.listdir(line.folder.path) == []
    line.commit(1)
    assert line.boxes["storage"].empty()


def test_a_rejected_snapshot_is_told_to_who_asked() -> None:
    line = Pipeline()
    line.commit(2)
    line.run(line.application, AdminRequest(8, "snapshot", ()))
    line.run(line.application, SnapshotEnded(2, error="a later snapshot was received"))
    (answer,) = line.answers()
    assert isinstance(answer, RejectedReply)
    assert "a later snapshot" in answer.text


def test_a_record_of_an_overtaken_snapshot_is_not_written() -> None:
    line = Pipeline()
    line.commit(9)
    received = Message(MessageType.STORAGE_APPEND, term=1, vote=1, commit=50, snapshot=Snapshot(50, 1, MEMBERS))
    line.run(line.storage, AppendWork(received))
    took(line.boxes["writer"])
    line.run(line.storage, SnapshotSaved(Snapshot(9, 1, MEMBERS)))
    assert [record.index for record in line.opened.wal.kept_snapshots()] == [50]
    (recorded,) = took(line.boxes["writer"])
    assert recorded.released == []
