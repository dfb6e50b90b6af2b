"""The runner of data-driven files notices what differs, and only log text is let pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.datadriven import main
from tests.conformance.datadriven_run import rewritten, run_file, without_log_text
from tests.conformance.datadriven_syntax import Argument, DirectiveError, parse

SCRIPT = """# A cluster of one.
log-level info
----
ok

add-nodes 1 voters=(1) index=3
----
INFO whatever the library says

campaign 1
----
INFO it says

stabilize
----
> 1 handling Ready
  Ready MustSync=true:
  Lead:0 State:StateCandidate
  HardState Term:1 Vote:1 Commit:3
  INFO in between
> 1 handling Ready
  Ready MustSync=true:
  Lead:1 State:StateLeader
  Entries:
  1/4 EntryNormal ""
> 1 handling Ready
  Ready MustSync=false:
  HardState Term:1 Vote:1 Commit:4
  CommittedEntries:
  1/4 EntryNormal ""
"""


def _script(folder: Path, text: str, kind: str = "interaction") -> Path:
    path = folder / kind / "script.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_only_log_text_may_differ(tmp_path: Path) -> None:
    path = _script(tmp_path, SCRIPT)
    assert run_file(path) is None
    failure = run_file(path, log_text=True)
    assert failure is not None
    assert failure.line == 6


_COMPARED = [
    number for number, line in enumerate(SCRIPT.splitlines()) if number > 14 and "INFO" not in line and line != "----"
]


@pytest.mark.parametrize("number", _COMPARED)
@pytest.mark.parametrize("change", ["alter", "leave out", "repeat", "indent"])
def test_every_changed_output_line_is_noticed(tmp_path: Path, number: int, change: str) -> None:
    lines = SCRIPT.splitlines()
    line = lines[number]
    lines[number : number + 1] = {
        "alter": [line + "0"],
        "leave out": [],
        "repeat": [line, line],
        "indent": ["  " + line],
    }[change]
    failure = run_file(_script(tmp_path, "\n".join(lines) + "\n"))
    assert failure is not None
    assert failure.line == 14
    assert "--- expected" in failure.text


@pytest.mark.parametrize("output", ["", "ok\nok\n", "okay\n", " ok\n"])
def test_ok_is_compared_exactly(tmp_path: Path, output: str) -> None:
    failure = run_file(_script(tmp_path, f"log-level none\n----\n{output}"))
    # An empty block is what remains of pure log text, and means the same as ok.
    assert (failure is None) == (output == "")


def test_output_of_log_text_alone_counts_as_ok() -> None:
    assert without_log_text("INFO a\n  DEBUG b\nWARN c\nERROR\n") == "ok\n"
    assert without_log_text("INFO a\nkept\n") == "kept\n"
    assert without_log_text("INFORMAL\n") == "INFORMAL\n"
    assert without_log_text('1/1 EntryNormal "INFO"\n') == '1/1 EntryNormal "INFO"\n'


def test_errors_are_compared(tmp_path: Path) -> None:
    start = "add-nodes 1 voters=(1,2) index=3\n----\n\npropose 1 x\n----\n"
    assert run_file(_script(tmp_path, start + "raft proposal dropped\n")) is None
    assert run_file(_script(tmp_path, start + "ok\n")) is not None


@pytest.mark.parametrize(
    "text",
    [
        "no-such-command\n----\nok\n",
        "add-nodes 1 no-such-option=1\n----\nok\n",
        "campaign 7\n----\nok\n",
        "campaign one\n----\nok\n",
        "log-level loud\n----\nok\n",
        "log-level none\n",
        "log-level none\n----\n----\nok\n",
    ],
)
def test_senseless_directives_fail_the_file(tmp_path: Path, text: str) -> None:
    assert run_file(_script(tmp_path, text)) is not None


def test_quorum_and_confchange_compare_every_blank(tmp_path: Path) -> None:
    good = "committed cfg=(1) idx=(12)\n----\n     idx\n>     12    (id=1)\n12\n"
    assert run_file(_script(tmp_path, good, "quorum")) is None
    assert run_file(_script(tmp_path, good.replace("     idx", "    idx"), "quorum")) is not None
    good = "simple\nv1\n----\nvoters=(1)\n1: StateProbe match=0 next=1\n"
    assert run_file(_script(tmp_path, good, "confchange")) is None
    assert run_file(_script(tmp_path, good.replace("next=1", "next=2"), "confchange")) is not None


def test_mismatched_quorum_input_is_told(tmp_path: Path) -> None:
    text = "vote cfg=(1,2) votes=(y)\n----\nerror: mismatched input (explicit or _) for voters map[1:{} 2:{}]: [y]\n"
    assert run_file(_script(tmp_path, text, "quorum")) is None


def test_syntax() -> None:
    first, second = parse(
        "a 1 x=(2, 3) \\\n  y=z,w e=\n in \n\n put\n----\n----\nout\n\nput\n----\n----\n\n# c\nb\n----\n"
    )
    assert first.arguments == (
        Argument("1", None),
        Argument("x", ("2", "3")),
        Argument("y", ("z,w",)),
        Argument("e", ("",)),
    )
    assert (first.input, first.expected) == ("in \n\n put", "out\n\nput\n")
    assert (second.command, second.input, second.expected) == ("b", "", "")
    with pytest.raises(DirectiveError):
        parse("a\n")


def test_rewriting_keeps_everything_but_the_outputs(tmp_path: Path) -> None:
    wrong = (
        "# first\n\nlog-level none\n----\nwrong\n\n# second\nadd-nodes 1\n----\n----\nwrong\n\n----\n----\n\n# last\n"
    )
    right = "# first\n\nlog-level none\n----\nok\n\n# second\nadd-nodes 1\n----\nok\n\n# last\n"
    path = _script(tmp_path, wrong)
    assert rewritten(path) == right
    path.write_text(right, encoding="utf-8")
    assert rewritten(path) == right


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = _script(tmp_path, SCRIPT)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"
    bad = good.with_name("bad.txt")
    bad.write_text("log-level none\n----\nwrong\n", encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "1 passed, 1 failed"
    assert "-wrong" in shown
    assert main([str(bad), "--rewrite", "--in-place"]) == 0
    assert main([str(tmp_path)]) == 0
    with pytest.raises(SystemExit):
        main([str(tmp_path / "absent")])
