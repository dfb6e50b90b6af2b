"""Signals, report and end of a node process, in small processes without a node."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raftactors.config import Member, NodeConfig
from raftactors.errors import ConfigError
from raftactors.node.parent import REPORT_BYTES_MAX, ParentLink

INHERITED = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGUSR2})
os.execv(sys.executable, [sys.executable, "-P", "-c", sys.argv[1]])
"""
SHOWN = """
from pathlib import Path
from raftactors.node.parent import take_signals
take_signals(is_supervised={supervised})
print(Path("/proc/self/status").read_text())
"""


def config(**options: int) -> NodeConfig:
    member = Member(node_id=1, peer_address="127.0.0.1:0", client_address="127.0.0.1:0")
    return NodeConfig(cluster_id=7, node_id=1, data_dir=Path("data"), members=(member,), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("supervised", "kept"), [(True, set()), (False, {signal.SIGHUP, signal.SIGINT})], ids=["supervised", "by hand"]
)
def test_a_node_begins_with_signals_as_they_should_be(supervised: bool, kept: set[signal.Signals]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", INHERITED, SHOWN.format(supervised=supervised)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    masks = dict(line.split(":", 1) for line in done.stdout.splitlines() if line.startswith("Sig"))
    ignored = {number for number in signal.valid_signals() if int(masks["SigIgn"], 16) >> (number - 1) & 1}
    # Python ignores the first two in every process, and libzmq relies on the first.
    assert ignored == {signal.SIGPIPE, signal.SIGXFSZ} | kept
    assert int(masks["SigBlk"], 16) == 0


@pytest.mark.parametrize("name", ["parent_fd", "ready_fd"])
def test_a_descriptor_that_is_no_pipe_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 5000, which is no open pipe; leave it out"):
        ParentLink(config(**{name: 5000}))
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigError, match="is no open pipe"):
        ParentLink(config(**{name: file.fileno()}))


def test_without_a_pipe_the_report_is_a_line_of_standard_output_and_a_failure_none() -> None:
    lines: list[str] = []
    link = ParentLink(config())
    assert not link.is_supervised
    link.report_failure("broken", 16)
    link.report({"event": "ready"}, lines.append)
    assert [json.loads(line) for line in lines] == [{"event": "ready"}]


def test_one_report_is_sent_and_fits_the_pipe() -> None:
    lines: list[str] = []
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as report:
        link = ParentLink(config(ready_fd=writer))
        assert link.is_supervised
        assert not os.get_inheritable(writer)
        # Each of these takes six bytes in JSON.
        link.report_failure("\u20ac" * 10_000, 16)
        link.report_failure("again", 16)
        link.report({"event": "again"}, lines.append)
        text = report.read()
    assert len(text) <= REPORT_BYTES_MAX * 2
    first, *others = text.splitlines()
    assert others == []
    assert json.loads(first)["exit_code"] == 16
    assert json.loads(lines[0]) == {"event": "again"}


def test_a_supervisor_that_has_gone_is_no_error_of_the_report() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ParentLink(config(ready_fd=writer)).report({"event": "ready"}, print)


WAITING = """
import os, signal, sys
from raftactors.node.parent import StopSignals
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1) or os.write(1, b"heard\\n"))
signals = StopSignals()
if sys.argv[2] == "early":
    os.kill(os.getpid(), signal.SIGTERM)
looks = []
def look():
    if not looks:
        os.write(1, b"looked\\n")
    looks.append(1)
sys.exit(signals.wait(int(sys.argv[1]), look, os.eventfd(sys.argv[2] == "trouble")))
"""


@pytest.mark.parametrize(("way", "code"), [("SIGTERM", 0), ("SIGINT", 0), ("parent", 23)])
def test_a_stop_signal_or_the_end_of_the_parent_ends_it_and_no_other_signal(way: str, code: int) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", WAITING, str(reader), "late"], stdout=subprocess.PIPE, pass_fds=(reader,)
    ) as process:
        os.close(reader)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"looked\n"
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == b"heard\n"
            assert select.select([process.stdout], [], [], 0)[0] == [], "it goes on"
            if way != "parent":
                process.send_signal(signal.Signals[way])
            else:
                os.close(writer)
            assert process.wait(30) == code
        finally:
            process.kill()
            if way != "parent":
                os.close(writer)


@pytest.mark.parametrize(("way", "code"), [("early", 0), ("trouble", 1)])
def test_a_stop_signal_or_a_trouble_before_the_wait_is_not_lost(way: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", WAITING, "-1", way], timeout=60, check=False)
    assert done.returncode == code
