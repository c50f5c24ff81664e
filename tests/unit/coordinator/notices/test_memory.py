# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from coordinator.notices.conditions import Findings
from coordinator.notices.memory import MAX_TOLD, Event, Memory, Timing
from coordinator.notices.notice import Kind, Notice, Severity, notice

TIMING = Timing(hold_seconds=60.0, repeat_seconds=3600.0)


def thing(severity: Severity = Severity.WARNING, kind: Kind = Kind.SITE_SILENT, site: str = "alpha") -> Notice:
    return notice(kind, severity, what="what", why="why", advice="advice", site=site)


class Told:
    """Steps a memory and notes what it says."""

    def __init__(self) -> None:
        self.memory, self.said = Memory(), []

    def at(self, now: float, *notices: Notice, unjudged: str = "") -> "Told":
        findings = Findings(notices=notices, unjudged_kinds=frozenset({unjudged} - {""}))
        self.memory, sayings = self.memory.step(findings, now, TIMING)
        self.said += [(now, s.event, s.severity) for s in sayings]
        return self


def test_what_holds_is_said_once_and_its_end_once() -> None:
    told = Told()
    for second in range(0, 300):
        told.at(float(second), thing())
    for second in range(300, 600):
        told.at(float(second))
    assert told.said == [(60.0, Event.BEGINS, Severity.WARNING), (360.0, Event.ENDS, Severity.WARNING)]
    assert told.memory == Memory()


def test_what_flaps_is_not_said() -> None:
    told = Told()
    for second in range(0, 1000):
        told.at(float(second), *([thing()] if second % 50 < 40 else []))
    assert told.said == []


def test_what_is_back_before_its_end_was_said_goes_on() -> None:
    told = Told()
    for second in range(0, 1000):
        told.at(float(second), *([thing()] if second < 100 or second % 50 < 5 else []))
    assert told.said == [(60.0, Event.BEGINS, Severity.WARNING)]


def test_worse_is_said_once_it_has_held_and_better_is_not() -> None:
    told = Told().at(0.0, thing()).at(60.0, thing())
    told.at(70.0, thing(Severity.CRITICAL)).at(80.0, thing()).at(100.0, thing(Severity.CRITICAL))
    told.at(159.0, thing(Severity.CRITICAL))
    assert len(told.said) == 1
    told.at(160.0, thing(Severity.CRITICAL)).at(170.0, thing()).at(300.0, thing(Severity.CRITICAL))
    told.at(400.0, thing(Severity.CRITICAL)).at(500.0).at(560.0)
    assert told.said[1:] == [(160.0, Event.WORSE, Severity.CRITICAL), (560.0, Event.ENDS, Severity.CRITICAL)]


def test_what_goes_on_is_repeated_unless_it_is_only_good_to_know() -> None:
    told = Told()
    for second in range(0, 10_000, 10):
        told.at(float(second), thing(), thing(Severity.INFO, Kind.SITE_DRAINED))
    events = [(now, event) for now, event, severity in told.said if severity is Severity.WARNING]
    assert events == [(60.0, Event.BEGINS), (3660.0, Event.REPEATS), (7260.0, Event.REPEATS)]
    assert len(told.said) == 4


def test_news_has_no_end_and_is_not_repeated() -> None:
    told, news = Told(), thing(Severity.WARNING, Kind.RUN_ABORTED)
    for second in range(0, 10_000, 10):
        told.at(float(second), news)
    told.at(10_000.0).at(10_100.0)
    assert told.said == [(60.0, Event.BEGINS, Severity.WARNING)]


def test_what_cannot_be_judged_neither_ends_nor_begins() -> None:
    told = Told().at(0.0, thing()).at(60.0, thing())
    for second in range(100, 1000, 10):
        told.at(float(second), unjudged=Kind.SITE_SILENT.value)
    assert len(told.said) == 1
    told.at(1000.0).at(1060.0)
    assert told.said[-1] == (1060.0, Event.ENDS, Severity.WARNING)


def test_a_clock_that_is_set_back_loses_nothing_and_repeats_nothing() -> None:
    told = Told().at(5000.0, thing()).at(5060.0, thing())
    told.at(100.0, thing()).at(3600.0, thing())
    assert len(told.said) == 1
    told.at(3700.0, thing()).at(3710.0).at(3770.0)
    assert [event for _, event, _ in told.said] == [Event.BEGINS, Event.REPEATS, Event.ENDS]


def test_since_is_the_conditions_own_time_or_when_it_was_first_seen() -> None:
    findings = Findings(notices=(thing(), replace(thing(site="beta"), since=7.0)))
    memory, _ = Memory().step(findings, 100.0, TIMING)
    _, sayings = memory.step(findings, 160.0, TIMING)
    assert [s.notice.since for s in sayings] == [100.0, 7.0]
    assert len({s.id for s in sayings}) == 2


def test_what_is_remembered_is_bounded() -> None:
    many = tuple(thing(site=f"s{i}") for i in range(MAX_TOLD + 5))
    memory, sayings = Memory().step(Findings(notices=many), 0.0, Timing(hold_seconds=0.0))
    assert len(memory.told) == len(sayings) == MAX_TOLD
