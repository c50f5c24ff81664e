# SPDX-License-Identifier: Apache-2.0
"""Couriers' round trips as sites report them, beside what manifests add to their bounds. For people; no I/O."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from coordinator.observations import Observations
from federation.plan import Plan
from federation.round_trips import KnownRoundTrip, SiteRoundTrip, shortfall
from federation.rounds import Federation, Run, RunState

Document = dict[str, Any]

_ENDED: Final = (RunState.COMPLETED, RunState.ABORTED)


def round_trip_document(state: Federation, observations: Observations, site: str) -> Document:
    """What a site measured and declares, and what each run that is not over adds to its bounds; all in seconds."""
    reported = _reported(observations, site)
    added = {run.id: run.member(site).courier_round_trip_seconds for run in _live(state) if run.is_member(site)}
    return {
        "measured_seconds": reported.measured_seconds,
        "declared_seconds": reported.declared_seconds,
        "added_seconds": added,
    }


def slow_couriers(state: Federation, observations: Observations) -> list[str]:
    """A sentence for each member of a run whose courier takes longer than the run's manifest allows for."""
    return [sentence for run in _live(state) for sentence in _slow_of(run, observations)]


def _slow_of(run: Run, observations: Observations) -> Iterator[str]:
    for member in run.plan.members:
        added = member.courier_round_trip_seconds
        known = _reported(observations, member.site).newest(added)
        if found := shortfall(member.site, added, known):
            yield (
                f"run {run.id}: {found}. The manifest is fixed: let the carrier come more often, or create a new run "
                f"with courier_round_trip_seconds = {known.seconds} for {member.site}"
            )


def _reported(observations: Observations, site: str) -> SiteRoundTrip:
    seen = observations.sites.get(site)
    if seen is None:
        return SiteRoundTrip()
    return SiteRoundTrip(
        declared_seconds=seen.status.declared_round_trip_seconds,
        measured_seconds=seen.status.measured_round_trip_seconds,
    )


def _live(state: Federation) -> list[Run]:
    return [run for _, run in sorted(state.runs.items()) if run.state not in _ENDED]


# -- an operator's side ------------------------------------------------------------------------------------------------


def known_round_trips(plan: Plan, sites: Iterable[Document]) -> dict[str, KnownRoundTrip]:
    """Of each member, what a run that is being created should reckon with.

    Args:
        plan: of the new manifest.
        sites: lines of the coordinator's answer about its sites; one of an earlier release has nothing of this.
    """
    reported = {line["site"]: _of_line(line) for line in sites}
    return {
        member.site: reported.get(member.site, SiteRoundTrip()).longest(member.courier_round_trip_seconds)
        for member in plan.members
    }


def too_short(plan: Plan, known: Mapping[str, KnownRoundTrip]) -> list[str]:
    """A sentence for each member to whose bounds the new run adds less than its courier is known to take."""
    found = []
    for member in plan.members:
        longest = known[member.site]
        if sentence := shortfall(member.site, member.courier_round_trip_seconds, longest):
            advice = f"Abort this run and create another one with courier_round_trip_seconds = {longest.seconds}"
            found.append(f"{sentence}. {advice} for {member.site}.")
    return found


def _of_line(line: Document) -> SiteRoundTrip:
    found = line.get("round_trip", {})
    return SiteRoundTrip(
        declared_seconds=int(found.get("declared_seconds", 0)), measured_seconds=int(found.get("measured_seconds", 0))
    )
