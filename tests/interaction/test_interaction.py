"""Our own scripts against a small cluster; one test a script, log text included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.datadriven_run import run_file

PATHS = sorted(Path(__file__).parent.glob("*.txt"))
ROWS = [f"a{row:02}" for row in range(1, 29)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    failure = run_file(path, log_text=True)
    assert failure is None, failure.describe()


@pytest.mark.parametrize("row", ROWS)
def test_every_feature_row_has_a_script(row: str) -> None:
    assert [path for path in PATHS if path.stem.startswith(f"{row}_")]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_script_names_its_source(path: Path) -> None:
    comment = "".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    row = f"A{int(path.stem[1:3])}"
    assert "Source:" in comment
    assert re.search(rf"FEATURES rows?\b[^.]*\b{row}\b", comment.replace("#", ""))


def test_documentation_lists_every_script() -> None:
    page = Path(__file__).parents[2] / "docs" / "conformance.md"
    listed = set(re.findall(r"`(a\d\d_\w+)`", page.read_text(encoding="utf-8")))
    assert listed == {path.stem for path in PATHS}


def test_documentation_names_unit_tests_that_exist() -> None:
    root = Path(__file__).parents[2]
    named = set(re.findall(r"`(test_\w+\.py)`", (root / "docs" / "conformance.md").read_text(encoding="utf-8")))
    assert not {name for name in named if not (root / "tests" / "core" / name).exists()}
