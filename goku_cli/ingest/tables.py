"""Rows of CSV and TSV, as people write them.

A quoted cell may hold separators, doubled quotation marks and line ends. A quotation mark that opens no such cell is
one that somebody wrote, and does not swallow the rows behind it.
"""

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence

MAX_LINE = 1 << 20
MOST_LINES = 64
"""Lines of one quoted cell; more are a quotation mark that was never closed."""
SEPARATORS = ",;\t|"
"""The first in use by programs, and by spreadsheets of other countries."""


class WrongRow(ValueError):
    """A row that is none; with the number of its line."""


class Table:
    """A table that is read row by row from lines with their ends; the first holds the names of its columns."""

    def __init__(self, lines: Iterator[str], names: Sequence[str], begins: Callable[[str], bool], tabs: bool) -> None:
        """`names` are columns that hold what `begins` is true of, the first that is there: so a row is known."""
        csv.field_size_limit(MAX_LINE)
        self._lines = enumerate(lines, 1)
        self._waiting: deque[tuple[int, str]] = deque()
        first = self._next()[1].rstrip("\r\n")
        self._separator = "\t" if tabs else _separator(first, names)
        self.columns = [name.lower() for name in self._cells(first) or first.split(self._separator)]
        self._name = next((self.columns.index(name) for name in names if name in self.columns), None)
        self._begins = begins

    def rows(self) -> Iterator[dict[str, str] | WrongRow]:
        """Yield the rows, and in the place of one that is none what is wrong with it."""
        while True:
            number, line = self._next()
            if not line:
                return
            if len(line) >= MAX_LINE:
                yield WrongRow(f"line {number} has more than {MAX_LINE} characters")
            elif line.strip("\r\n"):
                yield self._row(number, line)

    def _next(self) -> tuple[int, str]:
        return self._waiting.popleft() if self._waiting else next(self._lines, (0, ""))

    def _row(self, number: int, line: str) -> dict[str, str] | WrongRow:
        cells = self._cells(line) or self._over_lines(line) or line.rstrip("\r\n").split(self._separator)
        while len(cells) > len(self.columns) and not cells[-1].strip():
            cells.pop()
        if len(cells) > len(self.columns):
            return WrongRow(f"line {number} has {len(cells)} cells, its header {len(self.columns)}; "
                            f"quote what holds {self._separator!r}")  # fmt: skip
        return dict(zip(self.columns, cells, strict=False))

    def _over_lines(self, line: str) -> list[str] | None:
        """Return the cells of a row that goes on over lines, or None when it does not: then they wait to be read."""
        taken: list[tuple[int, str]] = []
        while len(taken) < MOST_LINES:
            number, following = self._next()
            if not following:
                break
            taken.append((number, following))
            if self._is_row(following):
                break
            line += following
            if cells := self._cells(line):
                return cells
        self._waiting.extendleft(reversed(taken))
        return None

    def _is_row(self, line: str) -> bool:
        cells = self._cells(line) or line.rstrip("\r\n").split(self._separator)
        return self._name is not None and self._name < len(cells) and self._begins(cells[self._name])

    def _cells(self, text: str) -> list[str] | None:
        """Return the cells of one row, or None where its quotation marks do not pair up as those of cells do."""
        lines = io.StringIO(text.rstrip("\r\n"), newline="")
        try:
            rows = list(csv.reader(lines, delimiter=self._separator, strict=True))
        except csv.Error:
            return None
        return rows[0] if len(rows) == 1 else None


def _separator(header: str, names: Sequence[str]) -> str:
    for mark in SEPARATORS:
        if set(names) & {cell.strip('"').lower() for cell in header.split(mark)}:
            return mark
    return SEPARATORS[0]
