# SPDX-License-Identifier: Apache-2.0
"""`run watch`: a picture that stays in place, a line per change where there is no terminal, or documents as they come.

A coordinator that goes away ends none of them: they say so and since when, and go on when it is back.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from rich.text import Text

from coordinator.cli.picture.head import title
from coordinator.cli.picture.whole import Contact, picture
from coordinator.cli.picture.words import name, verdict
from coordinator.cli.show import print_run
from federation.cli.reader import check_reader
from federation.cli.screen import can_redraw, print_lines, shown, terminal
from federation.durations import in_words
from federation.errors import DirectoryBusyError, FederationError
from federation.terminal_text import one_line

ENDED: Final = ("completed", "aborted")
LAST_LOOKS: Final = 60
"""At a completed run whose last scores are still to come."""

LEFT_TO_THE_SHELL: Final = 2
"""Lines of a terminal below a picture that stays: a last word, and the prompt."""

Document = dict[str, Any]
Look = Callable[[], Document]
Clock = Callable[[], float]


@dataclass
class Sight:
    """The newest document, and since when there is none that is newer.

    Attributes:
        seen_at: when it came; `lost_at`: since when none comes, None while they do. Unix seconds.
        trouble: what hindered the newest look.
        back_after: seconds without an answer, of a look that has just succeeded again; 0 otherwise.
    """

    document: Document
    clock: Clock
    seen_at: float = field(init=False)
    lost_at: float | None = None
    trouble: str = ""
    back_after: float = 0.0

    def __post_init__(self) -> None:
        self.seen_at = self.clock()

    def look(self, look: Look) -> None:
        """Looks once more. Raises FederationError where no further look will help."""
        asked_at = self.clock()
        try:
            document = look()
        except FederationError as error:
            # Another command of the same operator may hold her directory for as long as it waits for a reply.
            if not error.retryable and not isinstance(error, DirectoryBusyError):
                raise
            if not (self.trouble and isinstance(error, DirectoryBusyError)):  # which says less than what is known
                self.trouble = error.diagnostics()
            self.back_after = 0.0
            self.lost_at = asked_at if self.lost_at is None else self.lost_at
            return
        self.document, self.seen_at, self.trouble = document, self.clock(), ""
        self.back_after = 0.0 if self.lost_at is None else self.seen_at - self.lost_at
        self.lost_at = None

    def contact(self) -> Contact:
        """For the picture."""
        lost_for = 0.0 if self.lost_at is None else self.clock() - self.lost_at
        return Contact(trouble=self.trouble, lost_for=lost_for, seen_at=self.seen_at)


def watch_run(look: Look, rest: Callable[[], None], as_json: bool, *, clock: Clock = time.time) -> None:
    """Looks again and again until the run ended.

    Args:
        look: fetches the run's document.
        rest: waits until the next look.
        as_json: print one document a line instead of a live view; without a terminal, a sentence a change.
        clock: unix seconds.

    Raises:
        FederationError: the first look failed, or no further one will help.
    """
    sight = Sight(look(), clock)
    if as_json:
        _print_documents(sight, look, rest)
    elif can_redraw(terminal()):
        _draw(sight, look, rest)
    else:
        _print_lines(sight, look, rest)


def _looks(sight: Sight, look: Look, rest: Callable[[], None]) -> Iterator[None]:
    """Looks until the run is over and its last scores are there."""
    patience = LAST_LOOKS
    while not _is_over(sight.document) and patience:
        patience -= sight.document["state"] in ENDED
        rest()
        sight.look(look)
        yield


def _print_documents(sight: Sight, look: Look, rest: Callable[[], None]) -> None:
    """One document a line; what hinders is told on standard error, once, and when it is over."""
    print(json.dumps(sight.document), flush=True)
    while sight.document["state"] not in ENDED:
        rest()
        check_reader()
        was_lost = sight.lost_at is not None
        sight.look(look)
        if not sight.trouble:
            print(json.dumps(sight.document), flush=True)
        if sight.trouble and not was_lost:
            print(one_line(sight.trouble), file=sys.stderr, flush=True)
        elif sight.back_after:
            print(_back(sight), file=sys.stderr, flush=True)


def _draw(sight: Sight, look: Look, rest: Callable[[], None]) -> None:
    """The picture in place; when it is left, the newest one stays on the terminal."""

    def draw(width: int, height: int | None) -> list[Text]:
        return picture(sight.document, sight.clock(), width, height, sight.contact())

    console = terminal()
    try:
        with shown(console, draw):
            for _ in _looks(sight, look, rest):
                pass
    finally:
        print_lines(console, lambda width, _: draw(width, console.height - LEFT_TO_THE_SHELL))


def _print_lines(sight: Sight, look: Look, rest: Callable[[], None]) -> None:
    """A line per change, at once, for files and pipes; the whole picture at the end."""
    before = sentence(sight.document)
    print(before, flush=True)
    for _ in _looks(sight, look, rest):
        check_reader()
        now = one_line(sight.trouble) or sentence(sight.document)
        if now != before:
            print(now, flush=True)
            before = now
        if sight.back_after:
            print(_back(sight), flush=True)
    print_run(sight.document)


def _back(sight: Sight) -> str:
    return f"the coordinator answers again, after {in_words(sight.back_after)} without"


def sentence(document: Document) -> str:
    """What matters of a run in one line; steps and losses, which change all the time, are left out."""
    parts = [title(document)]
    if document["reason"]:
        parts.append(one_line(document["reason"]))
    for found in document["round_log"][-1:]:
        verdicts = ", ".join(f"{name(site)} {verdict(v)}" for site, v in found["verdicts"].items())
        parts.append(f"round {found['round']} {found['state']}" + (f" ({verdicts})" if verdicts else ""))
    for site, seen in document["sites_now"].items():
        parts.append(f"{name(site)} {name(seen['phase'] if seen['state'] == 'active' else seen['state'])}")
    return "; ".join(parts)


def _is_over(document: Document) -> bool:
    """Ended, and of a completed run every site has scored the final model."""
    if document["state"] != "completed":
        return document["state"] in ENDED
    scored = {e["site"] for e in document["evaluations"] if e["commits"] == document["commits"]}
    return scored >= set(document["sites"])
