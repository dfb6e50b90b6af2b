"""Tables that fit the width at hand by leaving whole columns out: no cell is ever cut or broken."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` is the order of leaving out, the largest first; a column of rank 0 always stays.

    `width` in characters is what the column is given at least, for tables whose rows come one after the other.
    """

    name: str
    rank: int = 0
    width: int = 0
    is_right: bool = False


class Table:
    """Chooses the columns that fit `width_max` characters (None: all of them), and makes the lines.

    `rows` are those that the widths of the columns must hold; later rows may be longer, and then take more.
    """

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[str]], width_max: int | None) -> None:
        self._columns = columns
        self._widths = [max(cell_len(column.name), column.width) for column in columns]
        for row in rows:
            self._widths = [max(width, cell_len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        self._width_max = width_max
        self._kept = list(range(len(columns)))
        for number in sorted(self._kept, key=lambda number: -columns[number].rank):
            if width_max is None or self._total() <= width_max or not columns[number].rank:
                break
            self._kept.remove(number)

    @property
    def header(self) -> Text:
        """The line of the names."""
        return Text(self.line([column.name for column in self._columns]).plain, "bold")

    def line(self, cells: Sequence[str], styles: dict[str, str] | None = None) -> Text:
        """One row; a cell that is a key of `styles` is shown in that style."""
        line = Text()
        for number in self._kept:
            cell = cells[number]
            padding = " " * (self._widths[number] - cell_len(cell))
            is_right = self._columns[number].is_right
            line.append(padding if is_right else "")
            line.append(cell, (styles or {}).get(cell))
            line.append(_GAP if is_right else padding + _GAP)
        line.rstrip()
        return line

    @property
    def note(self) -> list[str]:
        """Lines that say which columns were left out and where they are; none if all are there."""
        left_out = [column.name for number, column in enumerate(self._columns) if number not in self._kept]
        if self._width_max is None or not left_out:
            return []
        text = f"left out to fit {self._width_max} columns: {', '.join(left_out)}; --json has all"
        return textwrap.wrap(text, self._width_max, break_long_words=False, break_on_hyphens=False)

    def _total(self) -> int:
        return sum(self._widths[number] for number in self._kept) + len(_GAP) * (len(self._kept) - 1)
