"""Power cuts on real file systems lose nothing that was acknowledged (RELIABILITY A3)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftactors.errors import DataLostError
from tests.durability.power_cuts import LoopDisk, run
from tests.durability.shim import planted_command

pytestmark = pytest.mark.usefixtures("loop_disks")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cuts", [1, pytest.param(5, marks=pytest.mark.long)])
def test_a_few_power_cuts(cuts: int) -> None:
    outcome = run(cuts)
    assert outcome.clean, outcome.as_dict()
    assert outcome.account.acknowledged > 0


@pytest.mark.timeout(120)
def test_nodes_that_never_sync_their_log_lose_what_they_acknowledged() -> None:
    outcome = run(1, nodes=1, command=planted_command("never_syncs_the_log"), goes_on=False, snapshots=False)
    assert outcome.account.lost > 0


@pytest.mark.timeout(120)
def test_nodes_that_never_sync_at_all_do_not_even_start_again() -> None:
    """Their incarnation is older than the one with which they served."""
    with pytest.raises(DataLostError, match="an old copy of incarnation"):
        run(1, nodes=1, command=planted_command("never_syncs"), snapshots=False)


def test_a_cut_takes_what_was_not_synced_and_leaves_no_device(tmp_path: Path) -> None:
    with LoopDisk(tmp_path / "disk") as disk:
        kept, lost = disk.mount_point / "kept", disk.mount_point / "lost"
        with kept.open("wb") as file:
            file.write(b"kept")
            file.flush()
            _sync(file.fileno(), disk.mount_point)
        lost.write_bytes(b"lost")
        disk.cut()
        disk.mount()
        assert kept.read_bytes() == b"kept"
        assert not lost.exists()
        device = disk.device
    assert not Path(f"/sys/block/{Path(device).name}/loop/backing_file").exists()


def _sync(descriptor: int, folder: Path) -> None:
    os.fsync(descriptor)
    opened = os.open(folder, os.O_RDONLY)
    os.fsync(opened)
    os.close(opened)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_hundred_power_cuts() -> None:
    outcome = run(100)
    assert outcome.clean, outcome.as_dict()
