"""What these tests need of the machine, and a count of what was skipped for want of it."""

from __future__ import annotations

import pytest

from tests.durability import power_cuts, shim

_FOLDER = "tests/durability/"


@pytest.fixture(scope="session")
def preload_shim() -> None:
    """Skips the test where the shim cannot be compiled or loaded."""
    if reason := shim.missing():
        pytest.skip(f"the preload shim is not available: {reason}")


@pytest.fixture(scope="session")
def loop_disks() -> None:
    """Skips the test where no file system of its own can be mounted."""
    if reason := power_cuts.missing():
        pytest.skip(f"no power cuts and no full disks: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly how many tests of real disks did not run, and why: what was skipped was not proved."""
    reasons = [
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if report.nodeid.startswith(_FOLDER) and isinstance(report.longrepr, tuple)
    ]
    if reasons:
        terminalreporter.section(f"NOT TESTED ON REAL DISKS: {len(reasons)} tests", red=True, bold=True)
        for reason in sorted(set(reasons)):
            terminalreporter.write_line(f"{reasons.count(reason)} x {reason}")
