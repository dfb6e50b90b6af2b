"""A disk that refuses a call: the process ends or the log stops, and nothing acknowledged is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from raftactors.core.types import Entry, HardState
from raftactors.errors import CorruptWalError, DiskFullError, ExitCode, InvariantViolation, StorageError
from raftactors.storage import RealFiles, WalBatch, open_data_dir
from raftactors.storage.purging import SegmentPurge

from .faults import SYNCS, WRITES, complaint_about_restart, is_full_disk, is_sync_exit, run_with_fault
from .workloads import WORKLOADS


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_sync_that_fails_ends_the_process_at_every_index(workload: str) -> None:
    counted, _ = run_with_fault(workload, SYNCS, 0, errno.EIO)
    assert counted.matching > 10
    for nth in range(1, counted.matching + 1):
        disk, outcome = run_with_fault(workload, SYNCS, nth, errno.EIO)
        assert is_sync_exit(outcome.ended), f"sync {nth}: {outcome.ended!r}"
        assert outcome.calls == []  # Not tried again, and nothing else either.
        disk.crash(Random(nth))
        assert complaint_about_restart(disk, workload, outcome.allowed) == "", f"sync {nth}"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_full_disk_stops_the_log_at_every_write(workload: str) -> None:
    counted, _ = run_with_fault(workload, WRITES, 0, errno.ENOSPC)
    assert counted.matching > 10
    for nth in range(1, counted.matching + 1):
        disk, outcome = run_with_fault(workload, WRITES, nth, errno.ENOSPC)
        if outcome.failed[1].startswith("next.spare") and outcome.ended is None:
            continue  # Made ahead of its time: there was room again when the segment was needed.
        if outcome.failed[1] in {"witness", "1", "1.tmp"} and outcome.ended is None:
            continue  # The node does without a witness, see test_witness.py.
        assert is_full_disk(outcome.ended), f"write {nth}: {outcome.ended!r}"
        if not isinstance(outcome.ended, DiskFullError):  # After that one the log may still be closed in order.
            assert not [call for call in outcome.calls if call[0] in WRITES]
        if nth % 2:
            disk.crash(Random(nth))
        assert complaint_about_restart(disk, workload, outcome.allowed) == "", f"write {nth}"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_read_error_stops_the_start_and_changes_nothing_after_it(workload: str) -> None:
    counted, _ = run_with_fault(workload, {"pread"}, 0, errno.EIO)
    for nth in range(1, counted.matching + 1):
        disk, outcome = run_with_fault(workload, {"pread"}, nth, errno.EIO)
        assert isinstance(outcome.ended, StorageError)
        assert os.strerror(errno.EIO) in str(outcome.ended)
        assert outcome.ended.exit_code == ExitCode.DATA_UNREADABLE
        assert not [call for call in outcome.calls if call[0] in WRITES | SYNCS]
        assert complaint_about_restart(disk, workload, outcome.allowed) == "", f"read {nth}"


PURGING = ("own snapshots", "received snapshot", "conflict below a purge")


def removals_that_fail(workload: str) -> list[str]:
    """What goes wrong if one removal of each in turn is refused, and the node goes on: at once, or at the restart."""
    counted, _ = run_with_fault(workload, {"unlink"}, 0, errno.EIO)
    findings = []
    for nth in range(1, counted.matching + 1):
        disk, outcome = run_with_fault(workload, {"unlink"}, nth, errno.EIO)
        if outcome.ended is not None:
            findings.append(f"removal {nth}: {outcome.ended!r}")
            continue
        if nth % 2:
            disk.crash(Random(nth))
        try:
            findings.append(complaint_about_restart(disk, workload, outcome.allowed))
        except CorruptWalError as error:
            findings.append(f"removal {nth}: {error}")
    assert counted.matching > 1
    return list(filter(None, findings))


@pytest.mark.parametrize("workload", PURGING)
def test_a_removal_that_fails_holds_up_what_is_newer(workload: str) -> None:
    assert removals_that_fail(workload) == []


def test_a_failed_removal_that_is_forgotten_leaves_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SegmentPurge.run

    def forgetful(purge: SegmentPurge) -> int:
        try:
            return whole(purge)
        finally:
            purge._names.clear()

    monkeypatch.setattr(SegmentPurge, "run", forgetful)
    findings = [finding for workload in PURGING for finding in removals_that_fail(workload)]
    assert any("is missing" in finding for finding in findings)


def fill(path: Path, files: RealFiles, acknowledged: list[int]) -> None:
    """Append over a rotation on the real disk."""
    opened = open_data_dir(path, cluster_id=9, node_id=1, segment_bytes=16_384, files=files)
    try:
        for index in range(len(opened.entries) + 1, len(opened.entries) + 11):
            opened.wal.append([WalBatch(HardState(1, 1, index - 1), [Entry(1, index, bytes([index]) * 1_500)])])
            acknowledged.append(index)
    finally:
        opened.close()


class ProcessEnd(BaseException):
    """Stands for `os._exit`."""


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_every_failing_sync_of_the_real_disk_exits_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], call: str
) -> None:
    whole: Callable[[int], None] = getattr(os, call)
    counts: list[int] = []
    for nth in range(200):
        made, codes, acknowledged, folder = [0], list[int](), list[int](), tmp_path / f"{nth}"

        def fail(descriptor: int, made: list[int] = made, nth: int = nth) -> None:
            made[0] += 1
            if made[0] == nth:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            assert not nth or made[0] < nth, "a sync after the one that failed"
            whole(descriptor)

        def leave(code: int, codes: list[int] = codes) -> None:
            codes.append(code)
            raise ProcessEnd

        files = RealFiles(exit_process=leave)
        files.concurrent = False
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            if nth == 0:
                fill(folder, files, acknowledged)
                counts.append(made[0])
                continue
            with pytest.raises((ProcessEnd, InvariantViolation)):
                fill(folder, files, acknowledged)
        assert codes == [ExitCode.SYNC_FAILED]
        again = open_data_dir(folder, cluster_id=9, node_id=1, segment_bytes=16_384)
        assert [entry.index for entry in again.entries][: len(acknowledged)] == acknowledged
        again.close()
        if nth == counts[0]:
            break
    assert counts[0] > 8
    assert capfd.readouterr().err.count("Input/output error") == counts[0]


def test_short_and_interrupted_calls_of_the_real_disk_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, whole_pwrite, whole_pread = Random(3), os.pwrite, os.pread

    def short_pwrite(descriptor: int, content: bytes, offset: int) -> int:
        return whole_pwrite(descriptor, bytes(content)[: rng.randint(1, 3_000)], offset)

    def short_pread(descriptor: int, length: int, offset: int) -> bytes:
        return whole_pread(descriptor, rng.randint(1, min(length, 3_000)), offset)

    monkeypatch.setattr(os, "pwrite", short_pwrite)
    monkeypatch.setattr(os, "pread", short_pread)
    acknowledged: list[int] = []
    fill(tmp_path, RealFiles(), acknowledged)
    fill(tmp_path, RealFiles(), acknowledged)
    monkeypatch.undo()
    again = open_data_dir(tmp_path, cluster_id=9, node_id=1, segment_bytes=16_384)
    assert [entry.index for entry in again.entries] == acknowledged == list(range(1, 21))
    assert [entry.data for entry in again.entries] == [bytes([index]) * 1_500 for index in acknowledged]
    again.close()
