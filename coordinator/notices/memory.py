# SPDX-License-Identifier: Apache-2.0
"""What was said of what is the case: each thing once when it begins, once when it ends. Pure.

A notice waits until it has held for `hold_seconds` without a break; then it BEGINS. It is said again when it is WORSE
(its severity rose, and stayed so for `hold_seconds`) and every `repeat_seconds` (REPEATS; not what is only good to
know). It ENDS when it has been gone for `hold_seconds` without a break. What flaps is said once in that time at most.

`now` is a clock of the day and may be set: a time in memory that lies ahead of it counts as now.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from coordinator.notices.conditions import Findings
from coordinator.notices.notice import Notice, Severity

MAX_TOLD: Final = 5_000
"""Things remembered at once; beyond that, what begins waits for others to end."""


class Event(StrEnum):
    """Why something is said."""

    BEGINS = "begins"
    WORSE = "worse"
    REPEATS = "repeats"
    ENDS = "ends"


@dataclass(frozen=True, kw_only=True)
class Saying:
    """One thing to say.

    Attributes:
        id: the same for every attempt to say it, different for every other saying.
        at: unix seconds.
        severity: what decides who hears it; of an end, the worst that was said before.
    """

    id: str
    event: Event
    at: float
    severity: Severity
    notice: Notice


@dataclass(frozen=True, kw_only=True)
class Told:
    """Something that was said and is not over.

    Attributes:
        notice: as it was last said, `since` filled in.
        worst: the worst severity that was said.
        told_at: unix seconds of the newest saying.
        gone_at: since when it is not the case any more, None while it is.
        worse_at: since when it is worse than what was said.
    """

    notice: Notice
    worst: Severity
    told_at: float
    gone_at: float | None = None
    worse_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How patient and how insistent the memory is, in seconds."""

    hold_seconds: float = 60.0
    repeat_seconds: float = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What was said, and since when what waits to be said has held."""

    told: Mapping[str, Told] = field(default_factory=dict)
    waiting: Mapping[str, float] = field(default_factory=dict)

    def step(self, findings: Findings, now: float, timing: Timing) -> tuple["Memory", tuple[Saying, ...]]:
        """Takes in what is the case at `now` (unix seconds); returns the memory after it, and what to say."""
        here = {n.key: n for n in findings.notices}
        told: dict[str, Told] = {}
        said: list[Saying] = []
        for key, entry in self.told.items():
            kept, saying = _go_on(entry, here.get(key), findings.judged(key), now, timing)
            told |= {key: kept} if kept is not None else {}
            said += [saying] if saying is not None else []
        waiting: dict[str, float] = {}
        for key, found in here.items():
            if key in self.told:
                continue
            waiting[key] = min(self.waiting.get(key, now), now)
            if now - waiting[key] >= timing.hold_seconds and len(told) < MAX_TOLD:
                begun = replace(found, since=min(found.since or waiting.pop(key), now))
                waiting.pop(key, None)
                told[key] = Told(notice=begun, worst=begun.severity, told_at=now)
                said.append(_saying(Event.BEGINS, begun, begun.severity, now))
        return Memory(told=told, waiting=waiting), tuple(said)


def _go_on(
    entry: Told, found: Notice | None, judged: bool, now: float, timing: Timing
) -> tuple[Told | None, Saying | None]:
    """What becomes of something that was said: None once it has ended."""
    entry = _not_ahead(entry, now)
    if found is None:
        return _gone(entry, now, timing) if judged else (entry, None)
    worse = found.severity.rank > entry.worst.rank
    worse_at = (now if entry.worse_at is None else entry.worse_at) if worse else None
    entry = replace(entry, gone_at=None, worse_at=worse_at)
    newest = replace(found, since=entry.notice.since)
    if worse_at is not None and now - worse_at >= timing.hold_seconds:
        kept = Told(notice=newest, worst=found.severity, told_at=now)
        return kept, _saying(Event.WORSE, newest, found.severity, now)
    lasting = found.severity is not Severity.INFO and not found.is_news
    if lasting and now - entry.told_at >= timing.repeat_seconds:
        return replace(entry, notice=newest, told_at=now), _saying(Event.REPEATS, newest, found.severity, now)
    return entry, None


def _gone(entry: Told, now: float, timing: Timing) -> tuple[Told | None, Saying | None]:
    gone_at = now if entry.gone_at is None else entry.gone_at
    if now - gone_at < timing.hold_seconds:
        return replace(entry, gone_at=gone_at, worse_at=None), None
    return None, None if entry.notice.is_news else _saying(Event.ENDS, entry.notice, entry.worst, now)


def _not_ahead(entry: Told, now: float) -> Told:
    """The clock was set back: what seems to lie ahead has just been."""
    gone_at = None if entry.gone_at is None else min(entry.gone_at, now)
    worse_at = None if entry.worse_at is None else min(entry.worse_at, now)
    if (gone_at, worse_at) == (entry.gone_at, entry.worse_at) and entry.told_at <= now:
        return entry
    return replace(entry, told_at=min(entry.told_at, now), gone_at=gone_at, worse_at=worse_at)


def _saying(event: Event, notice: Notice, severity: Severity, now: float) -> Saying:
    digest = hashlib.sha256(f"{notice.key}|{event.value}|{now:.6f}".encode(errors="backslashreplace")).hexdigest()
    return Saying(id=digest[:32], event=event, at=now, severity=severity, notice=notice)
