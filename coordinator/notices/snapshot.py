# SPDX-License-Identifier: Apache-2.0
"""What notices rest on, at one moment. Values only; whoever reads the coordinator's directory fills them in."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from coordinator.observations import Observations
from federation.messages import ParticipationReport
from federation.rounds import Federation, Run, RunState

LIVE = (RunState.APPROVED, RunState.RUNNING, RunState.PAUSED)
"""States of a run whose members should be at work or ready for it."""


@dataclass(frozen=True, kw_only=True)
class CoordinatorSeen:
    """What can be told of the coordinator's process from outside.

    Attributes:
        quiet_seconds: since its last sign of life, by the observer's own clock.
        stopped: it has ended cleanly.
        since: unix seconds since which this process serves, 0.0 if unknown.
        owner: who it is, for people.
    """

    quiet_seconds: float
    stopped: bool = False
    since: float = 0.0
    owner: str = ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One moment of a consortium.

    Attributes:
        state: the ledger, folded.
        observations: newest report of each site.
        witnessed: per site the largest checkpoint size that it cosigned.
        roster_expires_at_us: of the roster in force, microseconds since 1970; 0 if unknown.
        coordinator_certificate_not_after_us: first of the coordinator's issuers to expire; 0 if unknown or none.
        ledger_fault: why the ledger cannot be read to its end, "" if it can.
        coordinator: None where nobody looked.
        losses: per run and site the newest reported losses, oldest first; the notifier remembers them.
    """

    state: Federation
    observations: Observations
    witnessed: Mapping[str, int] = field(default_factory=dict)
    roster_expires_at_us: int = 0
    coordinator_certificate_not_after_us: int = 0
    ledger_fault: str = ""
    coordinator: CoordinatorSeen | None = None
    losses: Mapping[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)

    def live_runs(self) -> Iterator[Run]:
        """Runs that are approved and not over, ascending by id."""
        return (run for _, run in sorted(self.state.runs.items()) if run.state in LIVE)


@dataclass(frozen=True, kw_only=True)
class LossHistory:
    """Losses that sites reported, newest last, per run and site; `at` is the round and step of the newest one."""

    values: Mapping[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    at: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def seen(self, snapshot: Snapshot, most: int) -> "LossHistory":
        """Takes in what is new; keeps the `most` newest of each member of a live run, and forgets all others."""
        values: dict[tuple[str, str], tuple[float, ...]] = {}
        at: dict[tuple[str, str], tuple[int, int]] = {}
        for key, report in _newest(snapshot).items():
            values[key], at[key] = self.values.get(key, ()), self.at.get(key, (-1, -1))
            if report is not None and (report.round, report.step) != at[key]:
                values[key] = (*values[key], report.loss)[-most:]
                at[key] = (report.round, report.step)
        return LossHistory(values=values, at=at)


def _newest(snapshot: Snapshot) -> dict[tuple[str, str], ParticipationReport | None]:
    """Per live run and member the report of its newest round that has a loss; 0.0 stands for none."""
    newest: dict[tuple[str, str], ParticipationReport | None] = defaultdict(lambda: None)
    for run in snapshot.live_runs():
        for member in run.plan.members:
            seen = snapshot.observations.sites.get(member.site)
            reports = seen.status.participations if seen else ()
            found = [r for r in reports if r.run == run.id and r.loss and r.step]
            newest[run.id, member.site] = max(found, key=lambda r: r.round, default=None)
    return newest
