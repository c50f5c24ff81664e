# SPDX-License-Identifier: Apache-2.0
"""What the coordinator's metrics are made of, and who counts as heard and as available. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from coordinator.observations import Observations
from federation.rounds import Federation, Run, RunState

DAY_SECONDS: Final = 86_400.0
SHOWN_DAYS: Final = 7
"""For so long after its end a run is still exported: its last scores come after it. Then its series end."""

SILENT_SECONDS: Final = 900.0
"""Without a report for so long, and twice its round trip, a site counts as silent; reports come every 30 seconds."""

LIVE: Final = (RunState.APPROVED, RunState.RUNNING, RunState.PAUSED)
"""States of a run whose members should be heard."""

_ENDED: Final = (RunState.COMPLETED, RunState.ABORTED)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything that is looked at; times are seconds since 1970.

    Attributes:
        consortium: its id.
        state: the ledger, folded.
        observations: the sites' newest reports. `witnessed` of it: per site how many leaves it cosigned.
        now: the clock of whoever renders.
        ledger_size: leaves of the ledger; those of `state` unless stated.
        roster_expires_at: of the newest roster; None if it is not known.
        certificates: per name the end of a certificate of the coordinator's own ("server", "issuer").
        coordinator_seen_at: the last sign of life of the process that decides; None where nobody looks for one.
        software: what the coordinator calls its release.
    """

    consortium: str
    state: Federation
    observations: Observations
    now: float
    ledger_size: int = -1
    roster_expires_at: float | None = None
    certificates: Mapping[str, float] = field(default_factory=dict)
    coordinator_seen_at: float | None = None
    software: str = ""

    def shown_runs(self) -> tuple[Run, ...]:
        """Runs that are not over, or not for long, ascending by id."""
        since_us = (self.now - SHOWN_DAYS * DAY_SECONDS) * 1e6
        runs = (run for _, run in sorted(self.state.runs.items()))
        return tuple(run for run in runs if not is_over(run) or run.state_since_us >= since_us)

    def known_sites(self) -> tuple[str, ...]:
        """Of the roster, and those revoked, ascending."""
        return tuple(sorted({*self.state.sites, *self.state.revoked}))

    def round_trip_seconds(self, site: str) -> int:
        """The longest that a message to the site and its answer take, by what it reports and what live runs add."""
        seen = self.observations.sites.get(site)
        reported = (seen.status.measured_round_trip_seconds, seen.status.declared_round_trip_seconds) if seen else ()
        runs = (run for run in self.state.runs.values() if not is_over(run) and run.is_member(site))
        return max((*reported, *(run.member(site).courier_round_trip_seconds for run in runs)), default=0)

    def heard(self, site: str) -> bool:
        """Whether the site's newest report is young."""
        seen = self.observations.sites.get(site)
        limit = SILENT_SECONDS + 2 * self.round_trip_seconds(site)
        return seen is not None and self.now - seen.received_at <= limit

    def available(self, run: Run) -> tuple[str, ...]:
        """Members that could take part, now or once a job of theirs starts: accepted, not taken out, and heard."""
        accepted = (m.site for m in run.plan.members if (answer := run.answers.get(m.site)) and answer.accepted)
        return tuple(s for s in accepted if s in self.state.sites and s not in self.state.excluded and self.heard(s))


def is_over(run: Run) -> bool:
    """Whether nothing can happen in the run any more, but for a last evaluation."""
    return run.state in _ENDED
