# SPDX-License-Identifier: Apache-2.0
"""The whole picture of a run, for a terminal of any size."""

from dataclasses import dataclass
from typing import Final

from rich.text import Text

from coordinator.cli.picture.head import contact_lines, head_lines, to_do_lines
from coordinator.cli.picture.ledger_rows import ledger_lines, short_ledger_line
from coordinator.cli.picture.round_rows import round_lines
from coordinator.cli.picture.scores import Scores, scores_of, summary_lines, table_lines
from coordinator.cli.picture.site_rows import missed_lines, site_lines
from coordinator.cli.picture.task_rows import disagreement_lines, task_lines
from coordinator.cli.picture.words import Document, newest_moment
from federation.cli.lines import first_lines, wrapped

LEAST_WIDTH: Final = 40
SMALL: Final = 30
"""Lines of a terminal below which the ledger gets one."""

_LEAST_SITES: Final = 4
_LEAST_ROUNDS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Contact:
    """How the picture came here.

    Attributes:
        trouble: why there is no newer one, "" if there may be.
        lost_for: seconds without an answer.
        seen_at: when the document came, in unix seconds.
    """

    trouble: str = ""
    lost_for: float = 0.0
    seen_at: float = 0.0


def picture(
    document: Document, clock: float, width: int, height: int | None = None, contact: Contact | None = None
) -> list[Text]:
    """The lines, none wider than `width` cells or `LEAST_WIDTH`.

    Args:
        document: of a run, as the coordinator sends it.
        clock: unix seconds, the reader's.
        width: cells.
        height: lines there are; None for as many as it takes. What does not fit is summed up.
        contact: None: it has just come.
    """
    width, now = max(width, LEAST_WIDTH), newest_moment(document, clock)
    contact = contact or Contact()
    top = [
        *contact_lines(contact.trouble, contact.lost_for, contact.seen_at, width),
        *head_lines(document, now, width),
        *to_do_lines(document, width, None if height is None else max(2, height // 6)),
    ]
    if waits := document.get("suggested_starts"):  # an older coordinator says nothing of it
        top += first_lines(wrapped(waits, width, limit=2000), None if height is None else 1)
    scores = scores_of(document)
    if height is None:
        return [*top, *_everything(document, scores, now, width), *ledger_lines(document, width)]
    bottom = [short_ledger_line(document, width)] if height < SMALL else ledger_lines(document, width)
    middle = _fitted(document, scores, now, width, height - len(top) - len(bottom))
    return [*top, *middle, *bottom][:height]


def _everything(document: Document, scores: Scores | None, now: float, width: int) -> list[Text]:
    lines = [*site_lines(document, now, width), *missed_lines(document, width), *round_lines(document, now, width)]
    if scores is not None:
        lines += [*summary_lines(document, scores, width), *table_lines(scores, width)]
    return [*lines, *task_lines(document, width), *disagreement_lines(document, width)]


def _fitted(document: Document, scores: Scores | None, now: float, width: int, room: int) -> list[Text]:
    """Sites, rounds and scores in so many lines: each gets its least, then the sites, the rounds, all languages."""
    summary = summary_lines(document, scores, width)[: max(0, room - _LEAST_SITES - _LEAST_ROUNDS)] if scores else []
    room -= len(summary)
    rounds = round_lines(document, now, width)
    sites = site_lines(document, now, width, max(_LEAST_SITES, room - min(len(rounds), _LEAST_ROUNDS)))
    rounds = round_lines(document, now, width, max(0, room - len(sites)))
    room -= len(sites) + len(rounds)
    made = [sites, rounds, summary]
    table = table_lines(scores, width) if scores else []
    if table and len(table) <= room:
        made.append(table)
        room -= len(table)
    if (missed := missed_lines(document, width)) and len(missed) <= room:
        made.insert(1, missed)
        room -= len(missed)
    return _spaced([part for part in made if part], room)


def _spaced(parts: list[list[Text]], room: int) -> list[Text]:
    """With blank lines between, where there is room for all of them."""
    gap = [Text("")] if room > len(parts) else []
    return [line for part in parts for line in (*gap, *part)] + gap
