# SPDX-License-Identifier: Apache-2.0
"""A terminal that shows one picture, drawn anew twice a second: `run watch`, `site-agent status --watch`.

The picture is drawn for the size that the terminal has at that moment, so that a resized window, ages and countdowns
are right without news. It lies on the terminal's second page, as `less` does it: what was there before comes back.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from federation.terminal_text import one_line

Draw = Callable[[int, int | None], Sequence[Text]]
"""Columns and lines (None: as many as it takes) → lines, none of them wider."""

REFRESH_PER_SECOND: Final = 2.0
EXIT_TERMINATED: Final = 128 + signal.SIGTERM


def terminal() -> Console:
    """Standard output, to which any text can be written whatever its encoding.

    Nothing is highlighted and no markup is read: the texts are others'.
    """
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Console(highlight=False, markup=False, emoji=False)


def can_redraw(console: Console) -> bool:
    """Whether a picture can stay in place: a terminal, and one that can move its cursor."""
    return console.is_terminal and not console.is_dumb_terminal


def print_lines(console: Console, draw: Draw) -> None:
    """Prints the whole picture once."""
    for line in _drawn(draw, console.width, None):
        console.print(line, no_wrap=True, overflow="crop", crop=False, soft_wrap=True)


@contextmanager
def shown(console: Console, draw: Draw) -> Iterator[None]:
    """Shows the picture until the block is left, by whatever way; a SIGTERM leaves it too."""
    with _left_on_sigterm(), _live(console, draw):
        yield


def _live(console: Console, draw: Draw) -> Live:
    return Live(_Picture(draw), console=console, screen=True, refresh_per_second=REFRESH_PER_SECOND, transient=True)


def _drawn(draw: Draw, width: int, height: int | None) -> Sequence[Text]:
    """What cannot be drawn says so: it came from somebody else, and the next one may be better."""
    try:
        return draw(width, height)
    except Exception as error:  # a traceback would tear the screen, and help nobody who looks at it
        return [Text(one_line(f"this cannot be drawn ({type(error).__name__}: {error}); --json prints it", width - 30))]


class _Picture:
    """Draws for the size at hand."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        for line in _drawn(self._draw, options.max_width, height)[:height]:
            line.no_wrap, line.overflow = True, "crop"
            yield line


@contextmanager
def _left_on_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)
