"""Which columns are left out where there is little room, and that nothing else is."""

from __future__ import annotations

import pytest

from raftactors.cli.tables import Column, Table

COLUMNS = (Column("id"), Column("name", rank=1), Column("size", rank=3, is_right=True), Column("place", rank=2))
ROWS = (("1", "alpha", "12345", "a place of many words"), ("2", "[b]", "7", "漢字"))


def shown(width_max: int | None) -> tuple[list[str], str]:
    table = Table(COLUMNS, ROWS, width_max)
    note = table.note
    assert width_max is None or width_max < 8 or all(len(line) <= width_max for line in note)
    return [table.header.plain, *(table.line(row).plain for row in ROWS)], " ".join(note)


@pytest.mark.parametrize(
    ("width_max", "left_out"),
    [
        (None, ""),
        (200, ""),
        (39, ""),
        (37, "size"),
        (32, "size"),
        (31, "size, place"),
        (11, "size, place"),
        (8, "name, size, place"),
        (1, "name, size, place"),
    ],
)
def test_columns_are_left_out_in_their_order(width_max: int | None, left_out: str) -> None:
    lines, note = shown(width_max)
    assert note == (f"left out to fit {width_max} columns: {left_out}; --json has all" if left_out else "")
    kept = [column.name for column in COLUMNS if column.name not in left_out.split(", ")]
    assert lines[0].split() == kept
    for row, line in zip(ROWS, lines[1:], strict=True):
        for column, cell in zip(COLUMNS, row, strict=True):
            assert (cell in line) == (column.name in kept)
        assert width_max is None or width_max < 8 or len(line) <= width_max


def test_text_is_no_markup_and_numbers_end_in_one_column() -> None:
    lines, _ = shown(None)
    assert "[b]" in lines[2]
    assert lines[1].index("12345") + 5 == lines[2].index("7") + 1


def test_a_row_that_is_longer_than_was_known_is_not_cut() -> None:
    table = Table((Column("index", width=4), Column("detail")), (), 20)
    assert table.line(("1", "x" * 40)).plain == "1      " + "x" * 40
