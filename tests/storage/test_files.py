"""The seam on the real disk."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from raftactors.core.types import Entry, HardState
from raftactors.errors import DataLockedError, ExitCode, InvariantViolation
from raftactors.storage import FileSystem, OpenedStorage, RealFiles, WalBatch, open_data_dir
from raftactors.storage.identity import lock_folder


def open_in(path: Path, files: FileSystem | None = None) -> OpenedStorage:
    return open_data_dir(path, cluster_id=9, node_id=1, segment_bytes=65_536, files=files)


def test_round_trip_over_segments_on_the_disk(tmp_path: Path) -> None:
    opened = open_in(tmp_path / "new" / "folder")
    entries = [Entry(1, i, os.urandom(3_000)) for i in range(1, 101)]
    for entry in entries:
        opened.wal.append([WalBatch(HardState(1, 1, entry.index), [entry])])
    assert opened.wal.stats.segments > 3
    opened.close()
    again = open_in(tmp_path / "new" / "folder")
    assert again.entries == entries
    again.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "wal-preallocation"] == []


def test_only_the_owner_may_read_the_folder(tmp_path: Path) -> None:
    opened = open_in(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert modes == {0o600}
    opened.close()


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    opened = open_in(tmp_path)
    with pytest.raises(DataLockedError, match=f"pid {os.getpid()}"):
        open_in(tmp_path)
    opened.close()


def test_short_writes_and_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_pwrite, whole_pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, content, at: whole_pwrite(fd, bytes(content)[:7], at))
    monkeypatch.setattr(os, "pread", lambda fd, length, at: whole_pread(fd, min(length, 5), at))
    files = RealFiles()
    descriptor = files.open(tmp_path / "file", create=True)
    content = bytes(range(100))
    files.pwrite(descriptor, content, 3)
    assert files.pread(descriptor, 500, 0) == b"\0\0\0" + content
    files.close(descriptor)


@pytest.mark.parametrize("call", ["mkdir", "rename", "unlink"])
def test_a_call_on_names_that_a_signal_interrupts_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    whole, attempts = getattr(os, call), 0

    def interrupted(*arguments: object) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
        whole(*arguments)

    files, path = RealFiles(), tmp_path / "name"
    if call != "mkdir":
        files.close(files.open(path, create=True))
    monkeypatch.setattr(os, call, interrupted)
    if call == "rename":
        files.rename(path, tmp_path / "other")
    else:
        (files.mkdir if call == "mkdir" else files.unlink)(path)
    assert attempts == 3
    assert path.exists() == (call == "mkdir")


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_failed_sync_leaves_by_the_exit_and_calls_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], call: str
) -> None:
    codes: list[int] = []
    opened = open_in(tmp_path, RealFiles(exit_process=codes.append))
    attempts: list[int] = []

    def refuse(descriptor: int) -> None:
        attempts.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(InvariantViolation):
            if call == "fdatasync":
                opened.wal.append([WalBatch(None, [Entry(1, 1, b"x")])])
            else:
                opened.files.fsync_dir(tmp_path)
    assert codes == [ExitCode.SYNC_FAILED]
    assert len(attempts) == 1
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert "Input/output error" in line
    opened.close()


FORKED = """
import os, signal, sys
from pathlib import Path
from raftactors.storage import RealFiles
from raftactors.storage.identity import lock_folder
lock_folder(RealFiles(), Path(sys.argv[1]))
reader, writer = os.pipe()
copy = os.fork()
if copy == 0:
    os.write(writer, b".")
    signal.pause()
os.read(reader, 1)
print(copy, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_forked_copy_that_outlives_the_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", FORKED, str(tmp_path / "data")], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        copy = int(holder.stdout.readline())
        try:
            holder.wait(30)
            files = RealFiles()
            files.close(lock_folder(files, tmp_path / "data"))
        finally:
            os.kill(copy, signal.SIGKILL)


def test_no_file_gets_the_number_of_a_standard_stream(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from raftactors.storage import RealFiles; os.closerange(0, 3); "
        "sys.exit(RealFiles().open(Path(sys.argv[1]), create=True))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program, str(tmp_path / "file")], timeout=60, check=False)
    assert done.returncode == 3
