# SPDX-License-Identifier: Apache-2.0
"""How much of the time a site trains, when its courier is slow: before a run is created, from its plan alone. No I/O.

A site's positions in a run are a max-plus system: a later position is reached s seconds after the one before it, and
not before what it waits for. In the long run a window then takes the largest mean of its cycles (Baccelli, Cohen,
Olsder, Quadrat: Synchronization and Linearity, 1992, chapter 3). With W = H/P inner steps of s seconds,
tau = q W + r (0 <= r < W), F = `max_rounds_in_flight`, and E the seconds from a boundary until the outcome of its round
is at the site:

    training:  W s                              in 1 window
    merge:     E + (q + 1) W s - tau s          in q + 1 windows   (boundary k, outcome, merge, boundary k + q + 1)
    opening:   E + W s                          in F windows       (boundary k - F, outcome, window k, boundary k)

    utilisation = W s / max(W s, W s + (E - tau s) / (q + 1), (E + W s) / F)

E is half the site's round trip and half that of the slowest member: a round is sealed when the last update is there.
What aggregation and the transfer itself take is not known here, and is not counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from federation.durations import in_words
from federation.plan import Member, Plan
from federation.round_trips import KnownRoundTrip, Source

WANTED_UTILISATION: Final = 0.9
"""Below it an operator is told."""

_MAX_DOUBLINGS: Final = 24
_NOTHING_KNOWN: Final[Mapping[str, KnownRoundTrip]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """What a site's windows depend on.

    Attributes:
        window_steps: W = H/P.
        tau: inner steps from a boundary to its merge.
        num_fragments: P.
        max_rounds_in_flight: F.
        step_seconds: s, of one inner step.
        outcome_seconds: E, from a boundary until the outcome of its round is at the site.
    """

    window_steps: int
    tau: int
    num_fragments: int
    max_rounds_in_flight: int
    step_seconds: float
    outcome_seconds: float

    @property
    def training_seconds(self) -> float:
        """Of one window."""
        return self.window_steps * self.step_seconds

    @property
    def window_seconds(self) -> float:
        """How long a window takes in the long run, waiting included."""
        training, outcome = self.training_seconds, self.outcome_seconds
        windows_of_merge = self.tau // self.window_steps + 1
        merge = training + (outcome - self.tau * self.step_seconds) / windows_of_merge
        opening = (outcome + training) / self.max_rounds_in_flight
        return max(training, merge, opening)

    @property
    def utilisation(self) -> float:
        """Share of the time that is training, 0 to 1."""
        return self.training_seconds / self.window_seconds


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What to expect of one site. `cycle` is None where nobody knows how long its inner steps take."""

    site: str
    round_trip_seconds: int
    cycle: Cycle | None


def expected_of(plan: Plan, step_seconds: Mapping[str, float]) -> tuple[Expected, ...]:
    """What to expect of each member.

    Args:
        step_seconds: of one inner step, by site; members without an entry, or with 0, are unknown.
    """
    slowest = max((member.courier_round_trip_seconds for member in plan.members), default=0)
    return tuple(_expected(plan, member, slowest, step_seconds.get(member.site, 0.0)) for member in plan.members)


@dataclass(frozen=True, kw_only=True)
class _Slowest:
    """The member whose courier is the slowest. `words`: who it is, how slow, and who says so."""

    seconds: int
    words: str


def warnings_of(
    plan: Plan, step_seconds: Mapping[str, float], known: Mapping[str, KnownRoundTrip] = _NOTHING_KNOWN
) -> tuple[str, ...]:
    """One sentence for each member that would train for less than 90 % of the time, with numbers and what to change.

    Args:
        step_seconds: of one inner step, by site.
        known: by site, round trips that count in place of what the plan says.
    """
    plan = replace(plan, members=tuple(_with_round_trip(member, known.get(member.site)) for member in plan.members))
    slowest = _slowest(plan, known)
    if not slowest.seconds:
        return ()
    found = []
    for expected in expected_of(plan, step_seconds):
        if expected.cycle is None:
            found.append(_unknown(plan, expected, slowest))
        elif expected.cycle.utilisation < WANTED_UTILISATION:
            found.append(_sentence(expected.site, expected.cycle, slowest))
    return tuple(sentence for sentence in found if sentence)


def _with_round_trip(member: Member, known: KnownRoundTrip | None) -> Member:
    return member if known is None else replace(member, courier_round_trip_seconds=known.seconds)


def _slowest(plan: Plan, known: Mapping[str, KnownRoundTrip]) -> _Slowest:
    seconds, site = max(((m.courier_round_trip_seconds, m.site) for m in plan.members), default=(0, ""))
    source = known[site].source if site in known else Source.RUN
    said = "" if source is Source.RUN else f", {source.value}"
    return _Slowest(seconds=seconds, words=f"slowest courier: {site}, {seconds} s{said}")


def _expected(plan: Plan, member: Member, slowest: int, seconds: float) -> Expected:
    round_trip = member.courier_round_trip_seconds
    cycle = _cycle(plan, member, slowest, seconds) if seconds > 0 else None
    return Expected(site=member.site, round_trip_seconds=round_trip, cycle=cycle)


def _cycle(plan: Plan, member: Member, slowest: int, seconds: float) -> Cycle:
    return Cycle(
        window_steps=member.num_inner_steps // plan.num_fragments,
        tau=plan.tau,
        num_fragments=plan.num_fragments,
        max_rounds_in_flight=plan.max_rounds_in_flight,
        step_seconds=seconds,
        outcome_seconds=(member.courier_round_trip_seconds + slowest) / 2,
    )


def _sentence(site: str, cycle: Cycle, slowest: _Slowest) -> str:
    waits = cycle.window_seconds - cycle.training_seconds
    return (
        f"{site} is expected to train {100 * cycle.utilisation:.0f} % of the time: its window of {cycle.window_steps} "
        f"inner steps takes {in_words(cycle.training_seconds)} of training ({cycle.step_seconds:g} s a step) and "
        f"{in_words(waits)} of waiting, since an outcome is there {in_words(cycle.outcome_seconds)} after its boundary "
        f"({slowest.words}) and tau = {cycle.tau} steps are {in_words(cycle.tau * cycle.step_seconds)}. "
        f"{_advice(cycle)}"
    )


def _advice(cycle: Cycle) -> str:
    """The smallest change of each kind that reaches what is wanted."""
    changes = []
    if steps := _enough_steps(cycle):
        changes.append(f"num_inner_steps = {steps * cycle.num_fragments}")
    if (more := _enough_tau(cycle)) is not None:
        in_flight = f" with max_rounds_in_flight = {more.max_rounds_in_flight}"
        changes.append(
            f"tau = {more.tau}{in_flight if more.max_rounds_in_flight != cycle.max_rounds_in_flight else ''}"
        )
    elif cycle.num_fragments == 1:
        changes.append("several fragments (num_fragments) with a tau above 0")
    if not changes:
        return "Carry more often, or train longer windows."
    return f"For {100 * WANTED_UTILISATION:.0f} %: {', or '.join(changes)}; or carry more often."


def _enough_steps(cycle: Cycle) -> int:
    """The fewest inner steps of a window with the same tau that are enough; 0 if none within reason."""
    high = cycle.window_steps
    for _ in range(_MAX_DOUBLINGS):
        if _is_enough(replace(cycle, window_steps=high)):
            break
        high *= 2
    else:
        return 0
    low = max(high // 2, 1)
    while low < high:
        middle = (low + high) // 2
        if _is_enough(replace(cycle, window_steps=middle)):
            high = middle
        else:
            low = middle + 1
    return high


def _enough_tau(cycle: Cycle) -> Cycle | None:
    """The same windows with the smallest tau, and the rounds in flight that it takes; None if no tau is enough."""
    most = (cycle.num_fragments - 1) * cycle.window_steps
    low, high = cycle.tau, most
    if not _is_enough(_with_tau(cycle, most)):
        return None
    while low < high:
        middle = (low + high) // 2
        if _is_enough(_with_tau(cycle, middle)):
            high = middle
        else:
            low = middle + 1
    return _with_tau(cycle, high)


def _with_tau(cycle: Cycle, tau: int) -> Cycle:
    """With as few rounds in flight as are enough, and as many as there are fragments at most."""
    least = max(1 + -(-tau // cycle.window_steps), cycle.max_rounds_in_flight)
    changed = replace(cycle, tau=tau, max_rounds_in_flight=min(least, cycle.num_fragments))
    while changed.max_rounds_in_flight < cycle.num_fragments and not _is_enough(changed):
        changed = replace(changed, max_rounds_in_flight=changed.max_rounds_in_flight + 1)
    return changed


def _is_enough(cycle: Cycle) -> bool:
    return cycle.utilisation >= WANTED_UTILISATION


def _unknown(plan: Plan, expected: Expected, slowest: _Slowest) -> str:
    """Without an estimate: how long a step must take for the site not to wait."""
    member = next(m for m in plan.members if m.site == expected.site)
    low, high = 0.0, 1e7
    if not _is_enough(_cycle(plan, member, slowest.seconds, high)):
        return ""
    for _ in range(80):
        middle = (low + high) / 2
        enough = _is_enough(_cycle(plan, member, slowest.seconds, middle))
        low, high = (low, middle) if enough else (middle, high)
    return (
        f"{expected.site} trains {100 * WANTED_UTILISATION:.0f} % of the time only if its inner step takes "
        f"{high:.3g} s or more ({slowest.words}); say seconds_per_step in run.toml for an estimate."
    )
