"""The core replays every golden trace; one test a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.replaying import load_trace, replay
from tests.conformance.shared_files import ABSENT_REASON, TRACES

PATHS = sorted(TRACES.glob("trace-*.jsonl.gz"))


@pytest.mark.skipif(not PATHS, reason=ABSENT_REASON)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name.split(".")[0])
def test_trace(path: Path) -> None:
    failure = replay(load_trace(path))
    assert failure is None, failure.describe()
