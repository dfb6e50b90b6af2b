"""The named durability modes: what each syncs and when, what a power cut takes back, and how loudly that is told."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from random import Random

import pytest

from raftactors.core.types import Entry, HardState
from raftactors.errors import ConfigError
from raftactors.storage import Durability, MemoryFiles, OpenedStorage, RealFiles, Verdict, WalBatch, open_data_dir

FOLDER = Path("/node/1")


def open_with(durability: str, path: Path, files: MemoryFiles | RealFiles) -> OpenedStorage:
    return open_data_dir(
        path, cluster_id=9, node_id=1, segment_bytes=16_384, files=files, durability=Durability.parse(durability)
    )


def append(opened: OpenedStorage, count: int, size: int = 100) -> None:
    for _ in range(count):
        index = opened.wal.stats.entries + 1
        opened.wal.append([WalBatch(HardState(1, 1, index - 1), [Entry(1, index, bytes([index]) * size)])])


@pytest.mark.parametrize("text", ["fsync", "interval:1", "interval:60000", "none"])
def test_a_mode_is_written_as_it_is_read(text: str) -> None:
    assert str(Durability.parse(text)) == text
    assert Durability.parse(text).is_safe == (text == "fsync")


@pytest.mark.parametrize(
    "text",
    ["", "sync", "interval", "interval:", "interval:0", "interval:60001", "interval:-5", "interval:\u0665", "none:5"],
)
def test_another_mode_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(ConfigError, match="durability"):
        Durability.parse(text)


def test_none_syncs_at_the_end_of_a_segment_and_at_the_close_only(disk: MemoryFiles) -> None:
    opened = open_with("none", FOLDER, disk)
    disk.calls.clear()
    append(opened, 10)
    assert {operation for operation, _ in disk.calls} == {"pwrite"}
    while not opened.wal.stats.segments:
        append(opened, 1)
    assert "fdatasync" in {operation for operation, _ in disk.calls}
    count = opened.wal.stats.entries
    opened.close()
    disk.crash(Random(1))
    assert len(open_with("fsync", FOLDER, disk).entries) == count


@pytest.mark.parametrize("durability", ["none", "interval:60000"])
def test_a_power_cut_takes_batches_off_the_end_and_is_not_taken_for_damage(durability: str) -> None:
    lengths = set()
    for seed in range(60):
        disk = MemoryFiles()
        opened = open_with(durability, FOLDER, disk)
        append(opened, 4)
        opened.wal.sync()
        append(opened, 8, size=300)
        disk.crash(Random(seed))
        found = open_with("fsync", FOLDER, disk)
        assert [entry.index for entry in found.entries] == list(range(1, len(found.entries) + 1))
        assert found.recovery.verdict in {Verdict.CLEAN, Verdict.TORN}
        lengths.add(len(found.entries))
    assert min(lengths) >= 4
    assert len(lengths) > 3


def test_an_interval_syncs_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_with("interval:1", tmp_path, RealFiles())
    synced, whole = threading.Event(), os.fdatasync
    in_thread: list[str] = []

    def note(descriptor: int) -> None:
        whole(descriptor)
        in_thread.append(threading.current_thread().name)
        synced.set()

    monkeypatch.setattr(os, "fdatasync", note)
    for _ in range(3):
        synced.clear()
        append(opened, 1)
        assert synced.wait(30)
    opened.close()
    assert in_thread.count("wal-interval-sync") == 3
    assert threading.current_thread().name in in_thread
    again = open_with("fsync", tmp_path, RealFiles())
    assert len(again.entries) == 3
    again.close()


@pytest.mark.parametrize(("durability", "warnings"), [("fsync", 0), ("interval:50", 1), ("none", 1)])
def test_an_unsafe_mode_is_told_in_one_line(
    disk: MemoryFiles, caplog: pytest.LogCaptureFixture, durability: str, warnings: int
) -> None:
    opened = open_with(durability, FOLDER, disk)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == warnings
    assert all(f"durability is {durability}: a power cut may take back acknowledged writes" in line for line in lines)
    assert opened.wal.durability == Durability.parse(durability)
    opened.close()
