"""The core gives what the reference's data-driven files expect; one test a file, log text left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.datadriven_run import FOLDERS, run_file
from tests.conformance.shared_files import ABSENT_REASON, SCRIPTS

PATHS = [path for folder in FOLDERS for path in sorted((SCRIPTS / folder).glob("*.txt"))]


@pytest.mark.skipif(not PATHS, reason=ABSENT_REASON)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_script(path: Path) -> None:
    failure = run_file(path)
    assert failure is None, failure.describe()
