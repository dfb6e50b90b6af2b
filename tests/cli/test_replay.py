"""`raftactors replay`: what it shows, on a terminal and in a pipe, and each way in which it fails."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftactors.app.state_changes import Change
from raftactors.app.time_travel import CommandRun
from raftactors.cli.step_output import CHANGES_SHOWN_MAX, VALUE_LENGTH_MAX, command_lines, json_value
from raftactors.codec.replies import ResultStatus
from raftactors.core.types import HardState
from raftactors.errors import ExitCode
from raftactors.storage import WalBatch, open_data_dir
from tests.app.bank import Bank
from tests.app.replica import Replica, commands_frame

from .conftest import COMMAND, Run

BANK = f"{Path(__file__).resolve().parents[1] / 'app' / 'bank.py'}:Bank"
SESSION = 1 << 16
SHOWN = f"""\
1 term 1 1970-01-01T00:00:01.000Z (open session {SESSION})
2 term 1 1970-01-01T00:00:01.000Z
  session {SESSION} #1  deposit('ann', 5) -> 5
    + balances.ann: 5
  session {SESSION} #2  withdraw('bob') -> ValueError: bob has 0
    + journal[0]: 'withdraw bob'
3 term 1 1970-01-01T00:00:01.000Z (not known to be committed)
  session {SESSION} #1  deposit('ann', 5) -> 5 (not executed now)
  session {SESSION} #2  withdraw('bob') -> ValueError: bob has 0 (not executed now)
  session {SESSION} #3  withdraw('ann', 2) -> 3
    balances.ann: 5 -> 3
    + journal[1]: 'withdraw ann'
applied 3, digest """


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of a stopped node that ran the bank of the tests."""
    replica = Replica(Bank())
    session = replica.open()
    calls = [("deposit", "ann", 5), ("withdraw", "bob")]
    replica.commit(commands_frame(session, 1, *calls))
    replica.commit(commands_frame(session, 1, *calls, ("withdraw", "ann", 2)))
    path = tmp_path / "node-1" / "data"
    path.mkdir(parents=True)
    opened = open_data_dir(path, cluster_id=9, node_id=1, segment_bytes=16 * 1024)
    for entry in replica.entries:
        opened.wal.append([WalBatch(HardState(1, 1, entry.index - 1), [entry])])
    opened.close()
    return path


def test_commands_results_and_changes(run: Run, folder: Path) -> None:
    done = run("replay", str(folder), "--app", BANK)
    assert done.code == 0
    assert done.out.startswith(SHOWN)
    assert "limits are taken to be the default ones" in done.err
    assert "commits up to index 2" in done.err
    shorter = run("replay", str(folder), "--app", BANK, "--from", "2", "--until", "2")
    assert shorter.out.splitlines()[:-1] == SHOWN.splitlines()[1:6]


def test_json_is_an_object_a_line(run: Run, folder: Path) -> None:
    done = run("replay", str(folder), "--app", BANK, "--json")
    *entries, end = [json.loads(line) for line in done.out.splitlines()]
    assert [entry["index"] for entry in entries] == [1, 2, 3]
    assert [entry["committed"] for entry in entries] == [True, True, False]
    assert entries[1]["commands"][0] == {
        "session": SESSION,
        "sequence": 1,
        "method": "deposit",
        "args": ["ann", 5],
        "kwargs": {},
        "executed": True,
        "status": "OK",
        "result": 5,
        "changes": [{"path": "balances.ann", "after": 5}],
    }
    assert end["applied"] == 3


def test_a_query_at_any_index(run: Run, folder: Path) -> None:
    for until, balance in (("1", 0), ("2", 5), ("3", 3)):
        done = run("replay", str(folder), "--app", BANK, "--until", until, "--query", "balance", "ann")
        assert done.out == f"{balance}\n"
    done = run("replay", str(folder), "--app", BANK, "--query", "balance", "ann", "--json")
    assert done.document == {"result": 3}


def test_a_running_node(serving: Run) -> None:
    assert serving("put", "seen", "from outside").code == 0
    data = Path(serving("status", "--json").document["data_dir"]) / "node-1" / "data"
    before = {path: path.read_bytes() for path in data.rglob("*.wal")}
    done = serving("replay", str(data), "--query", "get", "seen")
    assert (done.code, done.out) == (0, "from outside\n")
    done = serving("replay", str(data))
    assert "+ pairs.seen: 'from outside'" in done.out
    assert {path: path.read_bytes() for path in before} == before


def test_a_torn_end_is_said(run: Run, folder: Path) -> None:
    (segment,) = (folder / "wal").glob("*.wal")
    content = bytearray(segment.read_bytes())
    end = len(content.rstrip(b"\0"))
    content[end + 600 : end + 640] = b"a write that was cut off".ljust(40, b".")
    segment.write_bytes(content)
    done = run("replay", str(folder), "--app", BANK)
    assert done.code == 0
    assert "of a write that was cut off or is under way" in done.err
    assert done.out.startswith(SHOWN)
    assert segment.read_bytes() == content


Spoil = Callable[[Path], None]


def _damage(folder: Path) -> None:
    (segment,) = (folder / "wal").glob("*.wal")
    content = bytearray(segment.read_bytes())
    content[4096 + 30] ^= 1
    segment.write_bytes(content)


def _forget(folder: Path) -> None:
    (folder / "IDENTITY").unlink()


@pytest.mark.parametrize(
    ("spoil", "words", "code", "says"),
    [
        (_damage, ["--app", BANK], ExitCode.DATA_CORRUPT, "damage at offset 4096"),
        (_forget, ["--app", BANK], ExitCode.NO_DATA_FOLDER, "no data folder of a node"),
        (None, [], ExitCode.CONFIG, "name it: --app MODULE:CLASS"),
        (None, ["--app", "nowhere:Bank"], ExitCode.APPLICATION_UNKNOWN, "no module 'nowhere'"),
        (None, ["--app", BANK, "--until", "4"], ExitCode.INDEX_UNKNOWN, "index 4 is not in"),
        (None, ["--app", BANK, "--from", "4"], ExitCode.INDEX_UNKNOWN, "--from 4 lies outside"),
        (None, ["--app", BANK, "--from", "0"], ExitCode.INDEX_UNKNOWN, "index 1 to 3"),
        (None, ["--app", BANK, "--step"], ExitCode.USAGE, "needs a terminal"),
        (None, ["--app", BANK, "balance"], ExitCode.USAGE, "--query METHOD"),
        (None, ["--app", BANK, "--query", "deposit", "ann", "1"], ExitCode.COMMAND_REJECTED, "is a command"),
        (None, ["--app", BANK, "--query", "balance"], ExitCode.COMMAND_REJECTED, "who"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_one_clear_line(
    run: Run, folder: Path, spoil: Spoil | None, words: list[str], code: ExitCode, says: str
) -> None:
    if spoil is not None:
        spoil(folder)
    done = run("replay", str(folder), *words)
    assert done.code == code
    assert done.out == ""
    *notes, line = done.err.splitlines()
    assert all(note.startswith("raftactors: note: ") for note in notes)
    assert says in line
    assert "Traceback" not in done.err


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self._main, side = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [*COMMAND, *words], cwd=cwd, env=environment, stdin=side, stdout=side, stderr=subprocess.DEVNULL
        )
        os.close(side)
        self.shown = ""

    def answer(self, text: str) -> str:
        """Wait for the next question, answer it, and return what was shown before it."""
        while "that index > " not in self.shown:
            self.shown += os.read(self._main, 65536).decode()
        before, _, self.shown = self.shown.partition("that index > ")
        os.write(self._main, text.encode())
        return before

    def close(self) -> int:
        try:
            while part := os.read(self._main, 65536):
                self.shown += part.decode()
        except OSError:
            pass  # The other side is closed.
        os.close(self._main)
        return self.process.wait(30)


@pytest.fixture
def terminal(folder: Path, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal("replay", str(folder), "--app", BANK, "--step", cwd=tmp_path)
    yield opened
    if opened.process.poll() is None:
        opened.process.kill()
        opened.process.wait()


def test_step_by_step_on_a_terminal(terminal: Terminal) -> None:
    assert "open session" in terminal.answer("\n")
    deposit = terminal.answer("n\n")
    assert "deposit" in deposit
    assert "\x1b[" in deposit  # Colours.
    assert "withdraw('bob')" in terminal.answer("17\n")
    assert "no index from 1 to 3" in terminal.answer("3\n")
    assert "not executed now" in terminal.answer("1\n")
    # Back to the beginning.
    assert "open session" in terminal.answer("q\n")
    assert terminal.close() == 0


def test_step_to_the_end(terminal: Terminal) -> None:
    for _ in range(6):
        terminal.answer("\n")
    assert terminal.close() == 0


def test_an_application_that_iterates_a_set_sees_the_order_of_the_nodes(folder: Path, tmp_path: Path) -> None:
    """The order of a set of str follows PYTHONHASHSEED, which all nodes of a cluster share."""
    (tmp_path / "bag.py").write_text(
        "from raftactors import Application, command, query\n"
        "class Bag(Application):\n"
        "    @command\n"
        "    def deposit(self, who: str, amount: int) -> int: ...\n"
        "    @query\n"
        "    def order(self) -> list[str]:\n"
        "        return list({str(n) for n in range(50)})\n"
    )
    words = [*COMMAND, "replay", str(folder), "--app", "bag.py:Bag", "--query", "order"]
    expected = subprocess.run(
        [sys.executable, "-c", "import json; print(json.dumps(list({str(n) for n in range(50)})))"],
        env={"PYTHONHASHSEED": "9"},
        capture_output=True,
        text=True,
        check=True,
    )
    for _ in range(2):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == expected.stdout


def test_long_values_and_many_changes_are_cut_in_lines() -> None:
    changes = tuple(Change(f"k[red]{number}", None, "x" * 500) for number in range(CHANGES_SHOWN_MAX + 5))
    run = CommandRun(0, 0, "put", ["y" * 500], {"flag": True}, True, ResultStatus.OK, "z" * 500, changes)
    lines = command_lines(run)
    assert lines[-1].plain == "    ... and 5 more changes"
    assert len(lines) == 1 + CHANGES_SHOWN_MAX + 1
    assert all(len(line) < 3 * VALUE_LENGTH_MAX for line in lines)
    assert "k[red]0" in lines[1].plain  # The application's text is no markup.


def test_values_for_json() -> None:
    assert json_value({5: [b"\x00", {"a": None}], "b": 1.5}) == {"5": [{"base64": "AA=="}, {"a": None}], "b": 1.5}
