# SPDX-License-Identifier: Apache-2.0
"""Columns that fit: as many as the width allows, and none of them cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

_INDENT: Final = 5


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        cells: one for each row; printable, of bounded length.
        right: figures end at the same place.
        needed: shown at any width; the others in their order, while there is room.
    """

    head: str
    cells: Sequence[str]
    right: bool = False
    needed: bool = False

    @property
    def width(self) -> int:
        """Cells of the widest entry."""
        return max(map(cell_len, (self.head, *self.cells)))

    def cell(self, text: str) -> str:
        """The text, as wide as the column."""
        room = " " * max(0, self.width - cell_len(text))
        return room + text if self.right else text + room


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows that fit. `head` and each row are one line, or two where the first column needs one for itself.

    Attributes:
        rest: cells that are free at the end of each line, behind a gap.
    """

    head: list[Text]
    rows: list[list[Text]]
    rest: int


def grid(columns: Sequence[Column], width: int, styles: Sequence[str] = ()) -> Grid:
    """Lays out columns, the first one being each row's name.

    If the needed ones are too wide together, the first one gets a line of its own in each row; what is still too wide
    is dropped from the right, which no width of 80 cells leads to.

    Args:
        styles: of each row.
    """
    folded = _total([c for c in columns if c.needed]) > width
    name, others = columns[0], columns[1:]
    room = width - (_INDENT if folded else name.width)
    chosen: list[Column] = []
    for column in (*(c for c in others if c.needed), *(c for c in others if not c.needed)):
        if _total([*chosen, column]) + (0 if folded and not chosen else 1) <= room:
            chosen.append(column)
    ordered = [c for c in others if c in chosen]
    gap = 2 if _total([*ordered, name]) + len(ordered) + 1 <= width and not folded else 1
    styles = styles or [""] * len(name.cells)
    lay_out = partial(_row, name, ordered, folded=folded, gap=gap, width=width)
    heads = lay_out(name.head, [c.head for c in ordered], style="bold")
    if folded and cell_len(name.head) < _INDENT:  # both on one line
        heads = [Text(set_cell_size(name.head, _INDENT) + heads[1].plain[_INDENT:], style="bold")]
    rows = [lay_out(text, [c.cells[i] for c in ordered], style=styles[i]) for i, text in enumerate(name.cells)]
    used = sum(c.width + gap for c in ordered) + (_INDENT - gap if folded else name.width)
    return Grid(head=heads, rows=rows, rest=max(0, width - used - 2))


def _total(columns: Sequence[Column]) -> int:
    """Cells of columns with gaps of one."""
    return sum(c.width + 1 for c in columns) - 1


def _row(
    name: Column,
    columns: Sequence[Column],
    first: str,
    cells: Sequence[str],
    *,
    folded: bool,
    gap: int,
    width: int,
    style: str,
) -> list[Text]:
    rest = (" " * gap).join(column.cell(text) for column, text in zip(columns, cells, strict=True))
    if not folded:
        return [_line(f"{name.cell(first)}{' ' * gap}{rest}", width, style)]
    return [_line(first, width, style), _line(" " * _INDENT + rest, width, style)]


def _line(text: str, width: int, style: str) -> Text:
    return Text(set_cell_size(text, width) if cell_len(text) > width else text.rstrip(), style=style)
