# SPDX-License-Identifier: Apache-2.0
"""One line a site: what it does, how far it is, when it was last heard of, and its lane where there is room."""

from collections import Counter
from typing import Any, Final

from rich.cells import set_cell_size
from rich.text import Text

from coordinator.cli.picture.grid import Column, Grid, grid
from coordinator.cli.picture.lanes import LEGEND, axis, lane, span_of
from coordinator.cli.picture.words import Document, figure, name, whole
from federation.cli.lines import age, clip, wrapped
from federation.durations import count
from federation.terminal_text import one_line

SILENT_SECONDS: Final = 900.0
"""A site that was not heard of for so long is shown first where not all fit; heartbeats come far more often."""

_NO_JOB: Final = ("none", "ended")


def doing(document: Document, site: str) -> str:
    """In a word or two: what keeps it out of rounds, else its phase in the newest one, else its job's state."""
    seen, answer = document["sites_now"][site], document["answers"].get(site)
    if seen["state"] != "active":
        return clip(seen["state"], 12)
    if answer is None:
        return "no answer"
    if not answer["accepted"]:
        return "declined"
    if seen.get("waits_for_witnesses"):
        return "cosigning"
    if seen["round"] is not None and seen["allocation"] not in _NO_JOB:
        return clip(seen["phase"], 12)
    return one_line({"none": "no job", "ended": "job ended"}.get(seen["allocation"], seen["allocation"]), 12)


def _rank(document: Document, site: str, now: float) -> int:
    """Lower: rather to be seen."""
    seen = document["sites_now"][site]
    last, is_on = seen.get("last_seen"), document["state"] in ("running", "paused")
    if is_on and (last is None or now - last > SILENT_SECONDS):
        return 0
    if doing(document, site) in ("no answer", "declined", "no job", "job ended", "cosigning"):
        return 1
    return 2 if seen["state"] != "active" else 3


def site_lines(document: Document, now: float, width: int, most: int | None = None) -> list[Text]:
    """The table of sites; where there are more lines than `most`, those in need of attention stay."""
    sites = list(document["sites_now"])
    if not sites:
        return []
    found = _grid(document, sites, now, width, is_whole=most is None)
    span = span_of(document, now, found.rest)
    if span is not None:
        found.head[-1] = Text(set_cell_size(found.head[-1].plain, width - found.rest) + axis(span), style="bold")
        for site, row in zip(sites, found.rows, strict=True):
            left = set_cell_size(row[-1].plain, width - found.rest)
            row[-1] = Text(left + lane(document, site, span), style=row[-1].style)
    legend = [Text(LEGEND, style="dim")] if span is not None and len(LEGEND) <= width else []
    if most is None or len(found.head) + sum(map(len, found.rows)) + len(legend) <= most:
        return [*found.head, *(line for row in found.rows for line in row), *legend]
    return _cut(document, sites, found, now, width, most)


def _cut(document: Document, sites: list[str], found: Grid, now: float, width: int, most: int) -> list[Text]:
    room = max(0, (most - len(found.head) - 1) // len(found.rows[0]))
    by_need = sorted(range(len(sites)), key=lambda i: (_rank(document, sites[i], now), i))
    kept, left = sorted(by_need[:room]), sorted(by_need[room:])
    words = Counter(doing(document, sites[i]) for i in left)
    rest = ", ".join(f"{number} {word}" for word, number in words.most_common())
    summary = wrapped(f"… and {count(len(left), 'more site')}: {rest}", width, style="dim")[:1]
    return [*found.head, *(line for i in kept for line in found.rows[i]), *summary]


def _grid(document: Document, sites: list[str], now: float, width: int, *, is_whole: bool) -> Grid:
    """As one line a site, with what fits; where lines do not count, nothing is left out."""
    seen = [document["sites_now"][site] for site in sites]
    columns = [
        Column(head="site", cells=[name(site) for site in sites], needed=True),
        Column(head="doing", cells=[doing(document, site) for site in sites], needed=True),
        Column(head="rnd", cells=[_round(s) for s in seen], right=True, needed=is_whole),
        Column(head="step", cells=[_step(s) for s in seen], right=True, needed=True),
        Column(head="loss", cells=[figure(s["loss"]) if s["loss"] else "" for s in seen], right=True, needed=is_whole),
        Column(head="s/st", cells=[_pace(s.get("seconds_per_step")) for s in seen], right=True, needed=is_whole),
        Column(head="seen", cells=[_seen(s, now) for s in seen], right=True, needed=True),
        Column(head="miss", cells=[_missed(document, site) for site in sites], right=True, needed=is_whole),
        *_wide_columns(document, sites, seen, width),
    ]
    return grid(columns, width, [_style(_rank(document, site, now)) for site in sites])


def _wide_columns(document: Document, sites: list[str], seen: list[Any], width: int) -> list[Column]:
    """What is worth its room on a wide terminal only, where lanes have enough."""
    if width < 120:
        return []
    left = [age(s["seconds_left"]) if s.get("seconds_left", -1) >= 0 else "" for s in seen]
    starts = [age(s["start_in_seconds"]) if s.get("start_in_seconds", 0) > 0 else "" for s in seen]
    answers = [_answer(document["answers"].get(site)) for site in sites]
    return [
        Column(head="job", cells=[clip(s["allocation"], 12) for s in seen]),
        Column(head="left", cells=left, right=True),
        Column(head="starts in", cells=starts, right=True),
        Column(head="answer", cells=answers),
    ]


def _answer(answer: Document | None) -> str:
    return "none yet" if answer is None else "accepted" if answer["accepted"] else clip(answer["reason"], 20)


def _round(seen: Document) -> str:
    return "" if seen["round"] is None else whole(seen["round"])


def _step(seen: Document) -> str:
    if seen["round"] is None:
        return ""
    total = seen.get("num_steps")
    return whole(seen["step"]) if total is None else f"{whole(seen['step'])}/{whole(total)}"


def _pace(seconds: object) -> str:
    return figure(seconds, 2 if isinstance(seconds, int | float) and seconds < 10 else 0) if seconds else ""


def _seen(seen: Document, now: float) -> str:
    last = seen.get("last_seen")
    return "never" if last is None else age(now - last)


def _missed(document: Document, site: str) -> str:
    return whole(sum(document["missed"].get(site, {}).values()) or 0)


def _style(rank: int) -> str:
    return ("bold red", "yellow", "dim", "")[rank]


def missed_lines(document: Document, width: int) -> list[Text]:
    """Per site how many rounds went without its update, and why."""
    found = []
    for site, why in document["missed"].items():
        reasons = ", ".join(f"{one_line(word, 60)} x{whole(number)}" for word, number in why.items())
        found += wrapped(f"missed: {name(site)}: {reasons}", width, indent=2, style="yellow", limit=600)
    return found
