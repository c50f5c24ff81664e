# SPDX-License-Identifier: Apache-2.0
"""Parts of a run's document that answer: how long still, what holds it up, who has to do something. Read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from coordinator.forecast import forecast
from coordinator.observations import SiteSeen
from coordinator.site_views import cannot_open, problems
from coordinator.timeline import RoundTimes, RunTimes, phases_document
from federation.messages import AllocationReport, ParticipationReport
from federation.rounds import Round, Run, RunState
from federation.witnesses import needed_leaf, unwitnessed_since, witnessed_by

if TYPE_CHECKING:
    from coordinator.service import Coordinator

Document = dict[str, Any]


def pace_document(run: Run, times: RunTimes) -> Document:
    """Since when the run is in its state, when it committed last, and when it will end if that pace holds."""
    commits = list(times.commits_at_us)
    found = None
    if run.state is RunState.RUNNING:
        found = forecast(commits, run.plan.num_rounds - run.num_commits(), times.going_since_us)
    return {
        "state_since_us": run.state_since_us,
        "commits_at_us": commits,
        "forecast": asdict(found) if found else None,
    }


def plan_document(run: Run) -> Document:
    """Figures of the plan without which the others cannot be read."""
    plan = run.plan
    return {
        "num_fragments": plan.num_fragments,
        "num_inner_steps": plan.num_inner_steps,
        "max_rounds_in_flight": plan.max_rounds_in_flight,
        "quorum_sites": plan.quorum_sites,
        "evaluate_every": plan.evaluate_every,
    }


def trouble_document(coordinator: Coordinator, run: Run) -> Document:
    """What hinders this run, and what somebody has to see to."""
    return {
        "cannot_open": cannot_open(coordinator, run),
        "problems": problems(coordinator, run.id),
        "witnesses": witnesses_document(run, coordinator.observations.witnessed),
    }


def witnesses_document(run: Run, witnessed: Mapping[str, int]) -> Document:
    """Who cosigned the leaf that the newest commit's use depends on; `missing` where too few did."""
    if run.approved_leaf < 0:
        return {"quorum": run.plan.witness_quorum, "leaf": None, "cosigned_by": [], "missing": []}
    leaf = needed_leaf(run, run.num_commits())
    return {
        "quorum": run.plan.witness_quorum,
        "leaf": leaf,
        "cosigned_by": list(witnessed_by(run, leaf, witnessed)),
        "missing": list(unwitnessed_since(run, witnessed)),
    }


def round_details(found: Round, times: RoundTimes) -> Document:
    """When a round's parts happened, and its arithmetic in words."""
    return {
        "sealed_at_us": times.sealed_at_us,
        "ended_at_us": times.ended_at_us,
        "sentence": times.sentence,
        "num_steps": {i.site: i.num_steps for i in found.invitations},
        "verdicts_at_us": dict(sorted(times.verdicts_at_us.items())),
        "phases": {site: phases_document(progress) for site, progress in sorted(times.phases.items())},
    }


def site_details(run: Run, site: str, seen: SiteSeen | None, times: RunTimes) -> Document:
    """A site's rounds and allocation, with what a step count is out of."""
    rounds = [p for p in seen.status.participations if p.run == run.id] if seen else []
    allocations = [a for a in seen.status.allocations if a.run == run.id] if seen else []
    return {
        **_allocation(allocations[-1] if allocations else None),
        "num_steps": _num_steps(run, site, rounds[-1].round) if rounds else None,
        "participations": [_participation(run, site, report) for report in rounds],
        "allocation_log": [[at, state] for at, state in times.allocations.get(site, ())],
    }


def _allocation(newest: AllocationReport | None) -> Document:
    return {
        "allocation_id": newest.allocation if newest else "",
        "seconds_left": newest.seconds_left if newest else -1,
        "start_in_seconds": newest.start_in_seconds if newest else 0,
    }


def _participation(run: Run, site: str, report: ParticipationReport) -> Document:
    return {
        "round": report.round,
        "phase": report.phase.value,
        "step": report.step,
        "num_steps": _num_steps(run, site, report.round),
        "loss": report.loss if isfinite(report.loss) else None,
    }


def _num_steps(run: Run, site: str, number: int) -> int | None:
    """Inner steps of the site's window, None if the ledger does not invite it to that round."""
    found = run.rounds.get(number)
    invitation = found.invitation(site) if found else None
    return invitation.num_steps if invitation else None
