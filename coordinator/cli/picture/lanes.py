# SPDX-License-Identifier: Apache-2.0
"""One lane a site: what it did when, in the newest rounds, a character for the middle of each slice of time.

q queued   . ready, waits for others   t trains   u uploads   T both   + admitted   ! rejected, missed, declined
- in a round, it is not known how far      blank: no job, or nothing is known
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, inf
from typing import Any, Final

from coordinator.cli.picture.words import Document
from federation.ledger_state import RoundState

LEGEND: Final = "q queued  . waits  t trains  u uploads  T both  + admitted  ! not admitted"
MIN_CELLS: Final = 16
MAX_CELLS: Final = 120
MIN_ROUNDS: Final = 4
"""Newest rounds that lanes go back to; more where more are open."""

_ALLOCATION: Final = {
    "intended": "q",
    "submitted": "q",
    "queued": "q",
    "ready": ".",
    "draining": ".",
}
_ORDER: Final = " q.-utT"
"""Where more than one holds in a slice, what comes later here."""

_OPEN: Final = (RoundState.OPEN.value, RoundState.SEALED.value)


@dataclass(frozen=True, kw_only=True)
class Span:
    """The time that lanes cover, in unix seconds, and the rounds within."""

    start: float
    stop: float
    cells: int
    rounds: tuple[Any, ...]

    def cell(self, at: float) -> int:
        """The slice that a moment lies in; below 0 or beyond the last one outside of the span."""
        if not self.start <= at:
            return -1
        return min(int(self._slices(at)), self.cells)

    def within(self, since: float, until: float) -> range:
        """The slices whose middle lies between two moments."""
        first, stop = (ceil(self._slices(min(max(at, self.start), self.stop)) - 0.5) for at in (since, until))
        return range(first, stop)

    def _slices(self, at: float) -> float:
        return (at - self.start) / (self.stop - self.start) * self.cells


def span_of(document: Document, now: float, cells: int) -> Span | None:
    """What lanes of that length show; None if there is nothing to show, or no room."""
    rounds = [found for found in document["round_log"] if found.get("opened_at_us", 0) > 0 and "phases" in found]
    wanted = max(MIN_ROUNDS, 2 * sum(found["state"] in _OPEN for found in rounds))
    rounds = rounds[-wanted:]
    if not rounds or cells < MIN_CELLS:
        return None
    start = min(found["opened_at_us"] for found in rounds) / 1e6
    is_over = document["state"] in ("completed", "aborted")
    stop = max(found["ended_at_us"] for found in rounds) / 1e6 if is_over else now
    if not stop > start:
        return None
    return Span(start=start, stop=stop, cells=min(cells, MAX_CELLS), rounds=tuple(rounds))


def axis(span: Span) -> str:
    """Numbers of the rounds where they opened, as far as there is room."""
    line = ""
    for found in span.rounds:
        at = span.cell(found["opened_at_us"] / 1e6)
        mark = f"r{found['round']}"
        if at >= len(line) + bool(line) and at + len(mark) <= span.cells:
            line += " " * (at - len(line)) + mark
    return line


def lane(document: Document, site: str, span: Span) -> str:
    """One site's lane."""
    cells = [" "] * span.cells
    for since, until, letter in _stretches(document, site, span):
        for index in span.within(since, until):
            cells[index] = _merged(cells[index], letter)
    for found in span.rounds:
        verdict, at_us = found["verdicts"].get(site), found.get("verdicts_at_us", {}).get(site)
        if verdict is not None and at_us is not None and (at := span.cell(at_us / 1e6)) >= 0:
            cells[min(at, span.cells - 1)] = "+" if verdict["outcome"] == "admitted" else "!"
    return "".join(cells).rstrip()


def _merged(here: str, other: str) -> str:
    """Two things in one slice: training and an upload go together, else the one that says more."""
    if {here, other} in ({"t", "u"}, {"T", "t"}, {"T", "u"}):
        return "T"
    return max(here, other, key=_ORDER.index)


def _stretches(document: Document, site: str, span: Span) -> Iterable[tuple[float, float, str]]:
    log = document["sites_now"].get(site, {}).get("allocation_log", [])
    ends = [*(at for at, _ in log[1:]), span.stop]
    for (since, state), until in zip(log, ends, strict=False):
        if state in _ALLOCATION and until >= span.start:
            yield since, until, _ALLOCATION[state]
    for found in span.rounds:
        if site in found["invited"]:
            yield from _in_round(found, site, span.stop)


def _in_round(found: Document, site: str, now: float) -> Iterable[tuple[float, float, str]]:
    ended = found["ended_at_us"] / 1e6 if found["state"] not in _OPEN else now
    verdict_us = found.get("verdicts_at_us", {}).get(site)
    until = min(ended or inf, now if verdict_us is None else verdict_us / 1e6)
    phases = found["phases"].get(site)
    if phases is None:
        yield found["opened_at_us"] / 1e6, until, "-"
        return
    training, uploading = phases.get("training_at"), phases.get("uploading_at")
    if training is not None:
        yield training, until if uploading is None else min(uploading, until), "t"
    if uploading is not None:
        yield uploading, until, "u"
