"""The application actor: what was applied is committed before anybody is told, and no snapshot before its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from raftactors.actors.application import ApplicationActor
from raftactors.actors.mailbox import Batch, Mailbox
from raftactors.actors.messages import AppliesDone, ApplyWork, SnapshotFrozen, TakeSnapshot
from raftactors.actors.snapshot_trigger import SnapshotTrigger
from raftactors.app import KeyValue
from raftactors.app.host import ApplicationHost
from raftactors.config import Limits
from raftactors.core.messages import Message, MessageType
from raftactors.core.types import APPLY_THREAD, Entry
from raftactors.storage import MemoryFiles
from raftactors.storage.snapshots import SnapshotFolder


class RecordingHost(ApplicationHost):
    """A replica that notes what it is told, and what had left the actor by then."""

    def __init__(self, watched: list[Mailbox]) -> None:
        super().__init__(KeyValue(), limits=Limits(), node_id=1)
        self.calls: list[tuple[str, int]] = []
        self.replays = False
        self._watched = watched

    @property
    def is_replaying(self) -> bool:
        return self.replays

    def apply(self, entry: Entry, *, origin_incarnation: int) -> list[tuple[int, bytes]]:
        self._note(f"apply {entry.index}")
        super().apply(entry, origin_incarnation=origin_incarnation)
        return [(entry.index, b"done")]

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
        )

    def run(self, *messages: Any) -> None:
        self.actor.on_receive(Batch(list(messages)))

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
