# SPDX-License-Identifier: Apache-2.0
"""Lines of a terminal, measured in its cells: wrapped sentences, short ages, points in time."""

import time
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Final

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from federation.terminal_text import one_line

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))
_MAX_SECONDS: Final = 100 * 365 * 86_400
MIN_WIDTH: Final = 20


def wrapped(text: object, width: int, *, indent: int = 0, style: str = "", limit: int = 300) -> list[Text]:
    """A sentence of whatever origin as lines of at most `width` cells; all but the first one are indented."""
    width = max(width, MIN_WIDTH)
    lines, line, room = [], "", width
    for word in _words(one_line(text, limit), width - indent):
        if line.strip() and cell_len(line) + 1 + cell_len(word) > room:
            lines.append(line)
            line = " " * indent + word
        else:
            line = f"{line} {word}" if line else word
    return [Text(found, style=style) for found in [*lines, line] if found.strip()]


def _words(text: str, width: int) -> Iterator[str]:
    """Words, and the pieces of those that fit on no line."""
    for word in text.split():
        yield from chop_cells(word, width) if cell_len(word) > width else (word,)


def clip(text: object, cells: int) -> str:
    """A name or word of whatever origin on one line, cut to so many cells."""
    found = one_line(text, cells)
    if len(str(text)) <= cells and cell_len(found) <= cells:
        return found
    return set_cell_size(found, cells - 1).rstrip() + "…"


def first_lines(lines: list[Text], most: int | None) -> list[Text]:
    """So many lines; the last one says where something is missing."""
    if most is None or len(lines) <= most:
        return lines
    kept = lines[: max(most, 0)]
    if kept:
        kept[-1] = Text(kept[-1].plain[:-2] + " …", style=kept[-1].style)
    return kept


def age(seconds: float | None) -> str:
    """`34s`, `12m`, `5h`, `3d`: a whole number of the largest unit that there are two of; "?" for what is no duration.

    At most 6 cells.
    """
    if seconds is None or not isfinite(seconds) or seconds > _MAX_SECONDS:
        return "?"
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(round(seconds), 0)}s"


def moment(at_seconds: float) -> str:
    """`2026-11-23 04:20 UTC`, "?" for what is no point in time."""
    if not isfinite(at_seconds) or not 0 <= at_seconds < _MAX_SECONDS * 2:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_seconds))


def listed(names: Iterable[object], most: int = 8) -> str:
    """`a, b, c and 5 more`."""
    found = [clip(name, 60) for name in names]
    rest = len(found) - most
    return ", ".join(found[:most]) + (f" and {rest} more" if rest > 0 else "")
