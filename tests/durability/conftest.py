"""What these tests need of the machine; the test run counts what was skipped for want of it."""

from __future__ import annotations

import pytest

from tests.durability import power_cuts, shim


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
