"""Logs that are read while they are written, replaced and cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftactors.cluster.node_logs import LINE_BYTES_MAX, LogTail, interleave, nodes_with_logs


def stamp(second: int, text: str, level: str = "INFO") -> str:
    return f"2026-01-02 03:04:{second:02d},000 {level} node=1 {text}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "node-1").mkdir()
    return tmp_path / "node-1" / "log"


def texts(lines: object) -> list[str]:
    return [line.text for line in lines]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "lines_max", "expected"),
    [
        ("a\nb\n", "c\nd\n", 3, ["b", "c", "d"]),
        ("a\nb\n", "c\nd\n", 2, ["c", "d"]),
        ("a\nb\n", "c\nd\n", 0, []),
        ("a\nb\n", "c\nd\n", 9, ["a", "b", "c", "d"]),
        ("a\nb", "c\n", 2, ["b", "c"]),
        ("", "", 5, []),
        ("a\n", None, 5, ["a"]),
        (None, None, 5, []),
        (None, "x\r\n\n\xff\n", 5, ["x", "", "ÿ"]),
        (None, "x" * 70_000 + "\nend\n", 1, ["end"]),
    ],
)
def test_the_last_lines(log: Path, old: str | None, new: str | None, lines_max: int, expected: list[str]) -> None:
    if old is not None:
        log.with_name("log.1").write_text(old)
    if new is not None:
        log.write_text(new)
    with LogTail(log.parents[1], 1) as tail:
        assert texts(tail.last(lines_max)) == expected


def test_many_lines_over_many_blocks(log: Path) -> None:
    log.write_text("".join(f"{number:09}\n" for number in range(50_000)))
    with LogTail(log.parents[1], 1) as tail:
        assert texts(tail.last(20_000)) == [f"{number:09}" for number in range(30_000, 50_000)]


def test_new_lines_a_new_log_and_a_line_that_is_not_whole(log: Path) -> None:
    with LogTail(log.parents[1], 1) as tail:
        assert tail.last(5) == []
        assert tail.more() == []
        log.write_text("one\ntw")
        assert texts(tail.more()) == ["one"]
        with log.open("a") as file:
            file.write("o\nthree\n")
            file.flush()
            assert texts(tail.more()) == ["two", "three"]
            # The node is started again: the supervisor puts a new log in the place of a full one.
            log.replace(log.with_name("log.1"))
            file.write("the end of the old one")
        assert tail.more() == []
        log.write_text("the new one\n")
        assert texts(tail.more()) == ["the end of the old one", "the new one"]
        assert tail.more() == []


def test_a_node_puts_a_full_log_aside_and_goes_on_in_the_same_file(log: Path) -> None:
    log.write_text("".join(f"line {number}\n" for number in range(200)))
    with LogTail(log.parents[1], 1) as tail, log.open("a") as file:
        assert texts(tail.last(1)) == ["line 199"]
        file.write("written bef")
        file.flush()
        assert tail.more() == []
        file.write("ore\nand another\n")
        file.flush()
        log.with_name("log.1").write_bytes(log.read_bytes()[100:])
        file.truncate(0)
        file.write("after\n")
        file.flush()
        assert texts(tail.more()) == ["written before", "and another", "after"]
        # A log that something else empties is read from its beginning.
        file.truncate(0)
        file.write("x\n")
        file.flush()
        assert texts(tail.more()) == ["x"]


def test_the_end_that_is_not_whole(log: Path) -> None:
    log.write_text("one\ntw")
    with LogTail(log.parents[1], 1) as tail:
        assert texts(tail.last(1)) == []
        assert texts(tail.rest()) == ["tw"]
        assert tail.rest() == []


def test_a_line_without_end_is_shown_in_pieces(log: Path) -> None:
    log.write_bytes(b"")
    with LogTail(log.parents[1], 1) as tail:
        tail.last(1)
        log.write_bytes(b"x" * (3 * LINE_BYTES_MAX + 5))
        assert [len(line.text) for line in tail.more()] == [LINE_BYTES_MAX] * 3


def test_lines_of_several_logs_are_put_in_the_order_of_their_times(tmp_path: Path) -> None:
    for node_id, content in (
        (1, stamp(1, "a") + "Traceback\n  more\n" + stamp(5, "b", "ERROR")),
        (2, stamp(3, "c") + stamp(2, "clock set back") + stamp(4, "d")),
    ):
        (tmp_path / f"node-{node_id}").mkdir()
        (tmp_path / f"node-{node_id}" / "log").write_text(content)
    (tmp_path / "supervisor.log").write_text("before any time\n")
    assert nodes_with_logs(tmp_path) == [0, 1, 2]
    tails = [LogTail(tmp_path, node_id) for node_id in nodes_with_logs(tmp_path)]
    merged = list(interleave([tail.last(50) for tail in tails]))
    for tail in tails:
        tail.close()
    order = [(line.node_id, line.text.split()[-1], line.level) for line in merged]
    assert order == [
        (0, "time", ""),
        (1, "a", "INFO"),
        (1, "Traceback", ""),
        (1, "more", ""),
        (2, "c", "INFO"),
        (2, "back", "INFO"),
        (2, "d", "INFO"),
        (1, "b", "ERROR"),
    ]
