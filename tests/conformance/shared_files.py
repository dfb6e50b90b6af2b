"""Where the golden traces and scripts lie: beside the repository, or where RAFTACTORS_CONFORMANCE says."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "RAFTACTORS_CONFORMANCE"

ROOT = Path(os.environ.get(VARIABLE) or Path(__file__).resolve().parents[3] / "shared" / "conformance")
TRACES = ROOT / "traces"
SCRIPTS = ROOT / "datadriven"

ABSENT_REASON = f"no conformance files in {ROOT}; set {VARIABLE} to the folder that holds traces/ and datadriven/"
