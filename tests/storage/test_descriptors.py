"""Files of the storage are opened when every other descriptor is taken, and running out is no sign of a bad disk."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from raftactors.storage import RealFiles
from raftactors.storage.descriptors import LEAST, RESERVED, open_descriptor
from raftactors.storage.preallocation import means_disk_full


@contextmanager
def soft_limit(soft: int) -> Iterator[None]:
    """Another soft limit for this process; the hard one could not be raised again."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def everything_taken() -> Iterator[None]:
    """No descriptor below the soft limit is free."""
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)


def test_files_and_folders_are_opened_out_of_the_reserve(tmp_path: Path) -> None:
    files = RealFiles()
    with soft_limit(300), everything_taken():
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/dev/null", os.O_RDONLY)
        descriptor = files.open(tmp_path / "segment", create=True)
        files.pwrite(descriptor, b"x", 0)
        files.fsync_dir(tmp_path)
        files.close(descriptor)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
    assert (tmp_path / "segment").read_bytes() == b"x"


def test_other_errors_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_descriptor(tmp_path / "nothing", os.O_RDONLY)
    with soft_limit(300), everything_taken(), pytest.raises(FileNotFoundError):
        open_descriptor(tmp_path / "nothing", os.O_RDONLY)


def test_running_out_is_taken_for_a_lack_of_room() -> None:
    assert means_disk_full(OSError(errno.EMFILE, ""))
    assert means_disk_full(OSError(errno.ENFILE, ""))
    assert not means_disk_full(OSError(errno.EIO, ""))


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "found"),
    [
        (256, 4_096, 1_500, 1_500),
        (256, 4_096, 9_000, 4_096 - RESERVED),
        (4_096, 4_096, 1_500, 4_096 - RESERVED),
        (LEAST, LEAST + RESERVED, 1_500, LEAST),
        (64, LEAST + RESERVED - 1, 1_500, 0),
    ],
)
def test_the_reserve_lies_between_the_two_limits(soft: int, hard: int, wanted: int, found: int) -> None:
    program = (
        "import resource, sys\n"
        "from raftactors.errors import ConfigError\n"
        "from raftactors.storage.descriptors import arrange_descriptors\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "try:\n"
        f"    print(arrange_descriptors({wanted}), *resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    if found:
        assert told == f"{found} {found} {hard}"
    else:
        assert told.startswith(
            f"the hard limit of open files is {hard}; a node needs at least {LEAST + RESERVED}; raise"
        )
