"""What holds for every test: nothing outlives its module, and generated examples are the same on every run.

Also what a run says at its end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import hypothesis
import psutil
import pytest

_GRACE_SECONDS = 5.0
_REAL_DISKS = "tests/durability/"

hypothesis.settings.register_profile("commit", derandomize=True, deadline=None, database=None, max_examples=100)
hypothesis.settings.register_profile("nightly", deadline=None, print_blob=True, max_examples=5_000)


def pytest_configure(config: pytest.Config) -> None:
    """Choose repeatable examples for every commit, `make test-long` included, many fresh ones for the nightly runs."""
    chosen = config.getoption("markexpr") or ""
    nightly = "not nightly" not in chosen and ("nightly" in chosen or "release" in chosen)
    hypothesis.settings.load_profile("nightly" if nightly else "commit")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly how many tests of real disks did not run, and why: what was skipped was not proved."""
    reasons = [
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if report.nodeid.startswith(_REAL_DISKS) and isinstance(report.longrepr, tuple)
    ]
    if reasons:
        terminalreporter.section(f"NOT TESTED ON REAL DISKS: {len(reasons)} tests", red=True, bold=True)
        for reason in sorted(set(reasons)):
            terminalreporter.write_line(f"{reasons.count(reason)} x {reason}")


@pytest.fixture(autouse=True, scope="module")
def nothing_left_behind() -> Iterator[None]:
    """Fail the module that leaves a thread or a process running: it would disturb, and hide in, the tests after it."""
    threads_before = set(threading.enumerate())
    children_before = set(psutil.Process().children(recursive=True))
    yield
    deadline = time.monotonic() + _GRACE_SECONDS
    threads = [thread for thread in threading.enumerate() if thread not in threads_before and not _of_pytest(thread)]
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    children = [child for child in psutil.Process().children(recursive=True) if child not in children_before]
    _, running = psutil.wait_procs([child for child in children if not _of_python(child)], _GRACE_SECONDS)
    left = [f"thread {thread.name}" for thread in threads if thread.is_alive()]
    left += [f"process {child.pid} {' '.join(child.cmdline())}" for child in running if child.is_running()]
    assert not left, f"still running after the module's last test: {left}"


def _of_pytest(thread: threading.Thread) -> bool:
    """Whether this is the timer that pytest-timeout runs around each test."""
    return thread.name.startswith("pytest_timeout")


def _of_python(process: psutil.Process) -> bool:
    """Whether this is the process that multiprocessing keeps for its own book-keeping until the program ends."""
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return True
