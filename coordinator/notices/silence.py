# SPDX-License-Identifier: Apache-2.0
"""Which sites are heard of. Pure."""

from coordinator.notices.snapshot import Snapshot
from coordinator.notices.thresholds import Thresholds
from federation.round_trips import MAX_SECONDS
from federation.rounds import Run


def courier_seconds(snapshot: Snapshot, site: str) -> float:
    """How long a word of this site and its answer may be on the way: the longest that anybody says of it."""
    seen = snapshot.observations.sites.get(site)
    status = seen.status if seen else None
    known = [status.declared_round_trip_seconds, status.measured_round_trip_seconds] if status else []
    known += [run.member(site).courier_round_trip_seconds for run in snapshot.live_runs() if run.is_member(site)]
    return float(min(max(known, default=0), MAX_SECONDS))


def heard_at(snapshot: Snapshot, site: str) -> float:
    """When the site was last heard of, or could first have been: no earlier than its coordinator and run began."""
    seen = snapshot.observations.sites.get(site)
    served_since = snapshot.coordinator.since if snapshot.coordinator else 0.0
    if seen is not None:
        return max(seen.received_at, served_since)
    begun = [run.state_since_us / 1e6 for run in snapshot.live_runs() if run.is_member(site)]
    return max(min(begun, default=0.0), served_since)


def is_silent(snapshot: Snapshot, site: str, now: float, thresholds: Thresholds) -> bool:
    """Whether a site should have been heard of by now."""
    allowed = thresholds.silent_seconds + thresholds.silent_round_trips * courier_seconds(snapshot, site)
    return now - heard_at(snapshot, site) > allowed


def present(snapshot: Snapshot, run: Run, now: float, thresholds: Thresholds) -> frozenset[str]:
    """Members that can take part as far as is known: in the roster, neither drained nor revoked, willing, heard of."""
    state = snapshot.state
    absent = state.excluded | run.declined()
    return frozenset(
        m.site
        for m in run.plan.members
        if m.site in state.sites and m.site not in absent and not is_silent(snapshot, m.site, now, thresholds)
    )
