"""The history of a node's folder: from the nearest snapshot, to any index and back, with clear ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftactors.app import KeyValue
from raftactors.app.state_changes import MISSING, Change
from raftactors.app.time_travel import TimeTravel
from raftactors.cluster.history import History
from raftactors.config import Limits, Member, NodeConfig
from raftactors.core.types import ConfState, Entry, HardState, Snapshot
from raftactors.errors import (
    ApplicationMismatchError,
    ApplicationUnknownError,
    ConfigError,
    CorruptSnapshotError,
    ExitCode,
    IndexUnknownError,
)
from raftactors.storage import OpenedStorage, WalBatch, open_data_dir
from raftactors.storage.purging import SegmentPurge
from raftactors.storage.snapshot_file import SnapshotHeader
from raftactors.storage.snapshots import SnapshotFolder
from tests.app.replica import Replica, commands_frame

KEY_VALUE = "raftactors.app.kv:KeyValue"
CLUSTER_ID = 9


class Written:
    """A data folder whose log puts k1, k2 and so on, one a batch; with snapshots where asked for."""

    def __init__(self, folder: Path, *, length: int, snapshots: tuple[int, ...] = (), purge: bool = False) -> None:
        self.folder = folder
        opened: OpenedStorage = open_data_dir(folder, cluster_id=CLUSTER_ID, node_id=1, segment_bytes=16 * 1024)
        replica = Replica(KeyValue())
        for index in range(1, length + 1):
            replica.commit(commands_frame(0, 1, ("put", f"k{index}", "v" * 300)))
            opened.wal.append([WalBatch(HardState(1, 1, index - 1), [replica.entries[-1]])])
            if index in snapshots:
                snapshot = Snapshot(index, 1, ConfState((1,)))
                header = SnapshotHeader(CLUSTER_ID, snapshot, 2, 64)
                folder_of_snapshots = SnapshotFolder(opened.files, folder / "snap", cluster_id=CLUSTER_ID)
                folder_of_snapshots.save(header, [replica.host.snapshot()])
                opened.wal.append([WalBatch(HardState(1, 1, index), (), taken=snapshot)])
        if purge:
            segments = SegmentPurge(opened.files, folder / "wal")
            segments.add(opened.wal.release_segments())
            assert segments.run()
        opened.close()

    def snapshot_file(self, index: int) -> Path:
        return next((self.folder / "snap").glob(f"*-{index:016x}.snap"))


def put_changes(index: int) -> tuple[Change, ...]:
    return (Change(f"pairs.k{index}", MISSING, "v" * 300), Change("version", index - 1, index))


def changes_of(history: History, last: int) -> list[tuple[Change, ...]]:
    return [command.changes for step in history.steps(last) for command in step.commands]


def test_from_the_start_and_to_any_index(tmp_path: Path) -> None:
    written = Written(tmp_path / "data", length=12)
    with History(written.folder, KEY_VALUE) as history:
        assert (history.earliest_index, history.last_index, history.application_name) == (0, 12, "KeyValue")
        assert changes_of(history, 12) == [put_changes(index) for index in range(1, 13)]
        assert history.go_to(12).query("count", []) == 12
        assert history.go_to(5).query("count", []) == 5
        assert changes_of(history, 6) == [put_changes(6)]
        assert history.go_to(0).query("count", []) == 0
        assert [history.is_committed(index) for index in (11, 12)] == [True, False]
        assert any("up to index 11" in text for text in history.warnings)


def test_progress_is_told(tmp_path: Path) -> None:
    written = Written(tmp_path / "data", length=12)
    told: list[tuple[int, int]] = []
    with History(written.folder, KEY_VALUE) as history:
        history.go_to(12, lambda done, total: told.append((done, total)))
    assert told == [(12, 12)]


def test_the_nearest_snapshot_is_where_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(tmp_path / "data", length=12, snapshots=(4, 9))
    ran: list[int] = []
    skip = TimeTravel.skip

    def counting(travel: TimeTravel, entry: Entry) -> None:
        ran.append(entry.index)
        skip(travel, entry)

    monkeypatch.setattr(TimeTravel, "skip", counting)
    with History(written.folder, KEY_VALUE) as history:
        assert [history.base_before(index) for index in (3, 4, 8, 9, 12)] == [0, 4, 4, 9, 9]
        assert history.go_to(11).query("count", []) == 11
        assert ran == [10, 11]
        assert history.go_to(8).query("count", []) == 8
        assert ran == [10, 11, 5, 6, 7, 8]
        # Ahead, but a snapshot lies between: that is nearer.
        assert history.go_to(10).query("count", []) == 10
        assert ran[6:] == [10]
        assert changes_of(history, 12) == [put_changes(11), put_changes(12)]
        assert not any("older" in text for text in history.warnings)


def test_a_damaged_snapshot_is_passed_over(tmp_path: Path) -> None:
    written = Written(tmp_path / "data", length=12, snapshots=(4, 9))
    file = written.snapshot_file(9)
    content = bytearray(file.read_bytes())
    content[4096 + 50] ^= 1
    file.write_bytes(content)
    with History(written.folder, KEY_VALUE) as history:
        assert history.go_to(11).query("count", []) == 11
        assert any("an older one is taken" in text for text in history.warnings)
        assert history.base_before(11) == 4


def test_a_log_that_begins_behind_a_snapshot(tmp_path: Path) -> None:
    written = Written(tmp_path / "data", length=120, snapshots=(60, 110), purge=True)
    with History(written.folder, KEY_VALUE) as history:
        assert 0 < history.stored.base.index <= 60
        assert history.earliest_index == 60
        assert history.go_to(100).query("count", []) == 100
        with pytest.raises(IndexUnknownError, match=r"index 59 .* the states behind index 60 to 120"):
            history.go_to(59)
    for index in (60, 110):
        written.snapshot_file(index).unlink()
    with History(written.folder, KEY_VALUE) as history, pytest.raises(CorruptSnapshotError, match="no snapshot"):
        history.go_to(120)


def test_indexes_that_are_not_there(tmp_path: Path) -> None:
    written = Written(tmp_path / "data", length=3)
    with History(written.folder, KEY_VALUE) as history:
        for index in (-1, 4):
            with pytest.raises(IndexUnknownError, match="behind index 0 to 3") as error:
                history.go_to(index)
            assert error.value.exit_code is ExitCode.INDEX_UNKNOWN


def configure(folder: Path, application: str, limits: Limits | None = None) -> None:
    config = NodeConfig(
        cluster_id=CLUSTER_ID,
        node_id=1,
        data_dir=folder,
        members=(Member(node_id=1, peer_address="127.0.0.1:1", client_address="127.0.0.1:2"),),
        application=application,
        limits=limits or Limits(),
    )
    (folder.parent / "config.json").write_text(config.to_json())


def test_the_configuration_beside_the_folder(tmp_path: Path) -> None:
    written = Written(tmp_path / "data", length=3)
    with pytest.raises(ConfigError, match="name it: --app"):
        History(written.folder)
    with History(written.folder, KEY_VALUE) as history:
        assert any("limits are taken to be the default ones" in text for text in history.warnings)
    configure(written.folder, KEY_VALUE, Limits(command_bytes_max=64))
    with History(written.folder) as history:
        # With the node's limits the commands are too large, as they were for the node.
        assert [c.status.name for s in history.steps(3) for c in s.commands] == ["ARGUMENTS"] * 3
        assert not any("limits" in text for text in history.warnings)
    configure(written.folder, "a_bank_that_is_gone:Bank")
    with pytest.raises(
        ApplicationMismatchError, match="is the data folder of a_bank_that_is_gone:Bank, not of"
    ) as error:
        History(written.folder, KEY_VALUE)
    assert error.value.exit_code is ExitCode.APPLICATION_MISMATCH
    with pytest.raises(ApplicationUnknownError):
        History(written.folder)


def test_a_program_that_starts_a_cluster_when_imported(tmp_path: Path) -> None:
    written = Written(tmp_path / "data", length=1)
    (tmp_path / "careless.py").write_text(
        "from raftactors import KeyValue, LocalCluster\nclass Mine(KeyValue): ...\nLocalCluster(1, Mine).start()\n"
    )
    with pytest.raises(ApplicationUnknownError, match="must not start a cluster"):
        History(written.folder, f"{tmp_path / 'careless.py'}:Mine")
