# SPDX-License-Identifier: Apache-2.0
"""When new allocations of a run's sites need not begin yet, so that allocations overlap. Volatile, advice, no I/O.

A site whose queue is short would start, wait for the others in vain and end; so it is told when they are expected.
For each site that moment is the earliest at which the expected starts of the others, with this site there from the
beginning, satisfy the quorum function. It is asked to wait half of that time, later half of the rest, and so on, since
batch systems expect starts too late: jobs end before their limits. Whatever set of sites reaches a quorum first, none
of them waits longer than that quorum takes, as long as no site needs less than half of the time that was expected.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from coordinator.observations import Observations
from federation.durations import in_words
from federation.messages import AllocationReport, AllocationState, SuggestedStart
from federation.quorum import quorum
from federation.rounds import Federation, Run, RunState

MAX_SUGGESTION_SECONDS: Final = 86_400
"""No site is asked to wait longer from now."""

EARLY_SHARE: Final = 0.5
"""Of the time until a quorum is expected, what sites are asked to wait."""

MAX_EXPECTED_SECONDS: Final = 30 * 86_400
"""An expected start that lies further ahead is as good as none, and no honest one."""

MAX_REPORT_AGE_SECONDS: Final = 3_600
"""A report that is older, besides its courier's round trip, says nothing about now."""

RENEW_SECONDS: Final = 1_800
"""A suggestion that holds is repeated so often: sites forget one that is an hour old."""

MIN_REST_SECONDS: Final = 60
"""Between two words to one site about one run: estimates of batch systems jump."""

LOOK_SECONDS: Final = 5
"""Between two looks at all reports."""

_WAITING: Final = (AllocationState.SUBMITTED, AllocationState.QUEUED)
_MIN_CHANGE_SECONDS: Final = 300
_MIN_CHANGE_SHARE: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What one run's sites are told.

    Attributes:
        seconds: per site from now, before which its new allocation need not begin; 0 for at once, absent if unknown.
        sentence: the arithmetic, for people; "" where nobody is asked to wait.
    """

    seconds: Mapping[str, int] = field(default_factory=dict)
    sentence: str = ""


NOTHING: Final = Suggestion()


def expected_starts(state: Federation, run: Run, observations: Observations, now: float) -> dict[str, float | None]:
    """Per member that takes part: seconds until its allocation is there, None if that is unknown.

    0.0 is who is ready, and who was heard lately and has no job in the queue: it may be there at any moment. Ages are
    counted from the coordinator's own receipt; no clock of a site is read.
    """
    found: dict[str, float | None] = {}
    for member in run.plan.members:
        site, answer, seen = member.site, run.answers.get(member.site), observations.sites.get(member.site)
        if site in state.excluded or site not in state.sites or answer is None or not answer.accepted:
            continue
        age = now - seen.received_at if seen else 0.0
        if seen is None or age > MAX_REPORT_AGE_SECONDS + member.courier_round_trip_seconds:
            found[site] = None
        else:
            newest = next((a for a in reversed(seen.status.allocations) if a.run == run.id), None)
            found[site] = _expected(newest, age)
    return found


def _expected(report: AllocationReport | None, age: float) -> float | None:
    if report is None or report.state not in _WAITING:
        return 0.0
    if 0 < report.start_in_seconds <= MAX_EXPECTED_SECONDS:
        return max(0.0, report.start_in_seconds - max(0.0, age))
    return None


def suggested_start(run: Run, excluded: frozenset[str], expected: Mapping[str, float | None]) -> Suggestion:
    """Who need not begin before when.

    Args:
        run: the run.
        excluded: members that its quorum does not count.
        expected: seconds until each member's allocation is there, None if unknown (`expected_starts`).
    """
    known = {site: seconds for site, seconds in expected.items() if seconds is not None}
    now = quorum(run.plan, [site for site, seconds in known.items() if not seconds], excluded)
    if now.reached:
        return Suggestion(seconds=dict.fromkeys(expected, 0))
    found: dict[str, int] = {}
    for site in expected:
        moment = _quorum_moment(run, excluded, {**known, site: 0.0})
        if moment < inf:
            # What takes so long to reach the site is older by that when it does.
            seconds = min(EARLY_SHARE * moment, MAX_SUGGESTION_SECONDS) - run.member(site).courier_round_trip_seconds
            found[site] = max(0, int(seconds))
    asked = {site: seconds for site, seconds in found.items() if seconds}
    return Suggestion(seconds=found, sentence=_sentence(expected, asked, now.sentence) if asked else "")


def _quorum_moment(run: Run, excluded: frozenset[str], starts: Mapping[str, float]) -> float:
    """Seconds until those who are there by then suffice; infinite if all of them don't."""
    for moment in sorted(set(starts.values())):
        if quorum(run.plan, [site for site, seconds in starts.items() if seconds <= moment], excluded).reached:
            return moment
    return inf


def _sentence(expected: Mapping[str, float | None], asked: Mapping[str, int], ready: str) -> str:
    starts = ", ".join(f"{site} {_when(seconds)}" for site, seconds in expected.items())
    waits = ", ".join(f"{site} for {in_words(seconds)}" for site, seconds in asked.items())
    return f"expected starts: {starts}; new allocations need not begin: {waits}; at once there could be {ready}"


def _when(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"in {in_words(seconds)}" if seconds else "now"


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a site was told last: until when (coordinator's clock), and when it was told."""

    until: float
    at: float


@dataclass(kw_only=True)
class StartBoard:
    """Remembers what each site was told, and says it again when it changes. Losing it costs a few messages."""

    newest: dict[str, Suggestion] = field(default_factory=dict)
    _told: dict[tuple[str, str], _Told] = field(default_factory=dict)
    _looked_at: float = float("-inf")

    def look(self, state: Federation, observations: Observations, now: float) -> None:
        """Computes the suggestions of all runs anew, at most every `LOOK_SECONDS`."""
        if 0 <= now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self.newest = {run.id: _of_run(state, run, observations, now) for run in state.runs.values()}

    def news(self, site: str, now: float) -> tuple[SuggestedStart, ...]:
        """What the site is to be told now; it counts as told."""
        runs = sorted(run for run, suggestion in self.newest.items() if site in suggestion.seconds)
        return tuple(word for run in runs if (word := self._word(site, run, now)) is not None)

    def _word(self, site: str, run: str, now: float) -> SuggestedStart | None:
        seconds, before = self.newest[run].seconds[site], self._told.get((site, run))
        if not _is_news(before, seconds, now):
            return None
        self._told[site, run] = _Told(until=now + seconds, at=now)
        return SuggestedStart(run=run, seconds=seconds)


def _is_news(before: _Told | None, seconds: int, now: float) -> bool:
    if before is None:
        return seconds > 0
    age = now - before.at
    if 0 <= age < MIN_REST_SECONDS:
        return False
    if before.until <= now:  # what the site was told is over by itself
        return seconds > 0
    change = abs(now + seconds - before.until)
    return not 0 <= age < RENEW_SECONDS or change > max(_MIN_CHANGE_SECONDS, _MIN_CHANGE_SHARE * seconds)


def _of_run(state: Federation, run: Run, observations: Observations, now: float) -> Suggestion:
    is_on = run.state in (RunState.APPROVED, RunState.RUNNING)
    if not is_on or run.next_round - len(run.void) >= run.plan.num_rounds:
        return NOTHING  # no round is left to open
    excluded = state.excluded | run.declined()
    return suggested_start(run, excluded, expected_starts(state, run, observations, now))
