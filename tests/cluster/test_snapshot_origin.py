"""Which application a snapshot is restored with, and when that is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from raftactors.cluster.manifest import Manifest
from raftactors.cluster.snapshot_origin import application_of, describe_copy, origin_path
from raftactors.core.types import ConfState, Snapshot
from raftactors.errors import ApplicationMismatchError, ConfigError, CorruptSnapshotError, ForeignDataError
from raftactors.storage import RealFiles
from raftactors.storage.opening import SNAPSHOT_FOLDER
from raftactors.storage.snapshot_file import SnapshotHeader
from raftactors.storage.snapshots import SnapshotFolder

CLUSTER = 9


def save(folder: Path, index: int) -> Path:
    header = SnapshotHeader(CLUSTER, Snapshot(index, 2, ConfState((1,))), 1, 1024)
    SnapshotFolder(RealFiles(), folder, cluster_id=CLUSTER).save(header, [b"state"])
    return folder / header.name


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A snapshot in the data folder of a node of a bank."""
    folder = tmp_path / "run [1]" / "node-1"
    (folder / "data" / SNAPSHOT_FOLDER).mkdir(parents=True)
    config = {"application": "bank:Bank", "import_paths": ["/banks"], "cluster_id": CLUSTER}
    (folder / "config.json").write_text(json.dumps(config))
    return save(folder / "data" / SNAPSHOT_FOLDER, 5)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        cluster_id=CLUSTER,
        application="shop:Till",
        application_identity="shop:Till",
        import_paths=("/shops",),
        members=(),
    )


def test_the_configuration_of_the_node_names_it(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = application_of(snapshot, None)
    assert (found.spec, found.import_paths) == ("bank:Bank", ("/banks",))
    monkeypatch.chdir(snapshot.parent)
    assert application_of(Path(snapshot.name), None).spec == "bank:Bank"


def test_the_manifest_of_the_cluster_names_it(snapshot: Path, manifest: Manifest) -> None:
    (snapshot.parents[2] / "config.json").unlink()
    manifest.save(snapshot.parents[3])
    assert application_of(snapshot, None).spec == "shop:Till"


def test_a_copy_is_described_beside_it(snapshot: Path, manifest: Manifest, tmp_path: Path) -> None:
    copy = tmp_path / "backup.snap"
    shutil.copyfile(snapshot, copy)
    describe_copy(copy, manifest)
    found = application_of(copy, None)
    assert (found.spec, found.import_paths) == ("shop:Till", ("/shops",))
    # A description that got beside another snapshot must not name its application.
    other = save(tmp_path, 6)
    origin_path(copy).rename(origin_path(other))
    with pytest.raises(ForeignDataError, match="describes another snapshot"):
        application_of(other, None)


def test_a_lone_file_needs_a_name(snapshot: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.snap"
    shutil.copyfile(snapshot, alone)
    with pytest.raises(ConfigError, match="name it: --app MODULE:CLASS"):
        application_of(alone, None)
    assert application_of(alone, "other:Other").spec == "other:Other"


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"cluster_id": 9}', '{"cluster_id": 8}', None])
def test_a_configuration_that_says_nothing_is_no_name(snapshot: Path, content: str | None) -> None:
    path = snapshot.parents[2] / "config.json"
    if content is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_text(content)
    with pytest.raises(ConfigError, match="name it: --app"):
        application_of(snapshot, None)


def test_another_application_is_refused_with_the_way_out(snapshot: Path) -> None:
    with pytest.raises(
        ApplicationMismatchError, match=r"is a snapshot of bank:Bank .* not of kv:KeyValue; leave --app"
    ):
        application_of(snapshot, "kv:KeyValue")
    # The same class, named from another place.
    assert application_of(snapshot, "moved.bank:Bank").spec == "moved.bank:Bank"


def test_damage_comes_first(snapshot: Path) -> None:
    snapshot.write_bytes(b"x" * 5_000)
    with pytest.raises(CorruptSnapshotError):
        application_of(snapshot, None)
