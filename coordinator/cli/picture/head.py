# SPDX-License-Identifier: Apache-2.0
"""The first lines: which run, how far, how long still, and what somebody has to see to."""

from typing import Final

from rich.cells import cell_len
from rich.text import Text

from coordinator.cli.picture.ledger_rows import missing_witnesses
from coordinator.cli.picture.words import Document, name
from federation.cli.lines import age, clip, first_lines, listed, moment, wrapped
from federation.durations import count, in_words
from federation.terminal_text import one_line

_BAR_CELLS: Final = 30
_LATE: Final = 3
"""A commit is late after so many times what one took lately."""

_COLOURS: Final = {"running": "green", "completed": "green", "paused": "red", "aborted": "red"}


def title(document: Document) -> str:
    """`demo  RUNNING  3/9 rounds committed`."""
    committed = f"{document['commits']}/{count(document['rounds'], 'round')} committed"
    return f"{name(document['run'])}  {clip(document['state'], 12).upper()}  {committed}"


def head_lines(document: Document, now: float, width: int) -> list[Text]:
    """Title, progress and forecast."""
    since = document.get("state_since_us", 0) / 1e6
    lasts = f"  for {in_words(now - since)}" if since > 0 else ""
    text = title(document)
    if cell_len(text + lasts) <= width:
        lines = [Text(text, style=f"bold {_COLOURS.get(document['state'], '')}".strip()).append(lasts, style="dim")]
    else:
        lines = wrapped(text, width, style="bold")
    return [*lines, *_bar(document, now, width), *_forecast(document, now, width), *_before_start(document, width)]


def _bar(document: Document, now: float, width: int) -> list[Text]:
    total = document["rounds"]
    share = min(1.0, document["commits"] / total) if total > 0 else 0.0
    full = int(share * _BAR_CELLS)
    words = f"[{'#' * full}{'-' * (_BAR_CELLS - full)}] {100 * share:.0f} %"
    commits = document.get("commits_at_us")
    if commits:
        words += f"  last commit {age(now - commits[-1] / 1e6)} ago"
    found = document.get("forecast")
    if found:
        words += f", one every {age(found['seconds_per_commit'])}"
    return [Text(words)] if cell_len(words) <= width else wrapped(words, width)


def _forecast(document: Document, now: float, width: int) -> list[Text]:
    found, commits = document.get("forecast"), document.get("commits_at_us")
    if not found or not commits:
        return []
    ends, late = found["ends_at_us"] / 1e6, now - commits[-1] / 1e6
    if late > _LATE * found["seconds_per_commit"] + 1:
        usual = f"one took {age(found['seconds_per_commit'])} over the last {found['num_commits']}"
        return wrapped(f"no commit for {in_words(late)}, where {usual}: no forecast", width, style="yellow")
    left = f"ends in about {in_words(max(0.0, ends - now))}, {moment(ends)}"
    return wrapped(f"{left}, by the last {count(found['num_commits'], 'commit')}", width)


def _before_start(document: Document, width: int) -> list[Text]:
    """Who has to say yes before rounds can open."""
    if document["state"] not in ("draft", "approved"):
        return []
    approved = listed(document.get("approved_by", ())) or "nobody"
    silent = [site for site in document["sites"] if site not in document["answers"]]
    answers = f"no answer yet from {listed(silent)}" if silent else "every site has answered"
    return wrapped(f"approved by {approved}; {answers}", width)


def to_do_lines(document: Document, width: int, most: int | None = None) -> list[Text]:
    """Why it is paused, why no round opens, what else waits for somebody; each one begins with an exclamation mark."""
    reason = document["reason"]
    made = [str(reason)] if reason else []
    made += [text for text in document.get("problems", ()) if not reason or str(reason) not in text]
    made += filter(None, [missing_witnesses(document)])
    lines = [wrapped(f"! {text}", width, indent=2, style="bold red", limit=2000) for text in dict.fromkeys(made)]
    if most is None or sum(map(len, lines)) <= most:
        return [line for found in lines for line in found]
    return _shortened(lines, width, most)


def _shortened(lines: list[list[Text]], width: int, most: int) -> list[Text]:
    """The beginning of as many as fit, and how many more there are."""
    each = max(1, (most - 1) // len(lines))
    room = most if len(lines) * each <= most else most - 1
    kept = [line for found in lines[: room // each] for line in first_lines(found, each)]
    left = len(lines) - room // each
    more = f"! {count(left, 'more thing')} to see to: `coordinator status`" if left > 0 else ""
    return [*kept, *(wrapped(more, width, style="bold red"))]


def contact_lines(trouble: str, lost_for: float, seen_at: float, width: int) -> list[Text]:
    """That the coordinator does not answer, since when, and of when the picture is."""
    if not trouble:
        return []
    clock = moment(seen_at)
    why = ". ".join(one_line(part) for part in trouble.rstrip(".").split("\n", 1))
    words = f"NO CONTACT for {in_words(lost_for)}: {why}. What follows is of {clock}."
    return wrapped(words, width, style="bold reverse", limit=1000)
