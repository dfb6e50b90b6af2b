"""The programs of examples/, executed as a reader would."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words], cwd=cwd, capture_output=True, text=True, timeout=90, check=False
    )


def test_start(tmp_path: Path) -> None:
    done = run("start.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from three processes\n", "")


@pytest.mark.long
def test_bank(tmp_path: Path) -> None:
    done = run("bank.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ann 70 bob 30\nrefused: bob has 30, which is less than 31\ntotal 100\n"


@pytest.mark.long
def test_sqlite_bank(tmp_path: Path) -> None:
    done = run("sqlite_bank.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ann 70 bob 30 total 100\n", "")


@pytest.mark.long
def test_demo(tmp_path: Path) -> None:
    done = run("demo.py", "--phase-s", "0.5", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for event in (
        "killed the leader",
        "longest time without an acknowledged write",
        "all 3 replicas agree",
        "none lost",
    ):
        assert event in done.stdout
    assert done.stdout.endswith("OK\n")
    assert list(tmp_path.iterdir()) == []


def test_the_bank_is_testable_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    bank = importlib.import_module("bank").Bank()
    monkeypatch.delitem(sys.modules, "bank")
    assert bank.deposit("ann", 10) == 10
    bank.transfer("ann", "bob", 4)
    assert (bank.balance("ann"), bank.balance("bob"), bank.total()) == (6, 4, 10)
    with pytest.raises(ValueError, match="bob has 4, which is less than 5"):
        bank.transfer("bob", "ann", 5)
    with pytest.raises(ValueError, match="must be positive"):
        bank.deposit("ann", 0)
    assert bank.total() == 10


@pytest.mark.long
def test_the_demonstration_can_fail(tmp_path: Path) -> None:
    """With a bank that loses every hundredth deposit, it must notice, say so and end with exit code 1."""
    for name in ("demo.py", "bank.py"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    bank = tmp_path / "bank.py"
    honest = "self.accounts[owner] = self.accounts.get(owner, 0) + amount"
    assert honest in bank.read_text()
    lossy = f"{honest} - (self.accounts.get(owner, 0) % 100 == 99)"
    bank.write_text(bank.read_text().replace(honest, lossy))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "demo.py"), "--phase-s", "5"],
        cwd=tmp_path,
        env={"PATH": "", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "FAILED: writer-" in done.stderr
    assert "balance 99 after 100 deposits of 1" in done.stderr
