# SPDX-License-Identifier: Apache-2.0
"""The sites: who they are, what they do and spend."""

from math import isfinite
from typing import Any

from coordinator.dashboard.page import Figure, Figures, Page
from coordinator.dashboard.pages.request import Asked
from coordinator.dashboard.pages.site_facts import budget_table, facts_figures, facts_row
from coordinator.dashboard.pages.words import verdict_words
from coordinator.dashboard.tables import Kind, Link, Table, columns
from coordinator.observations import SiteSeen
from coordinator.site_views import clock_skew_seconds, site_state
from federation.errors import UsageError
from federation.ledger_state import Federation

NUM_VERDICTS = 50


def sites_page(asked: Asked) -> Page:
    """All sites."""
    state = asked.view.state
    rows = [_row(asked, site) for site in sorted(_known(state))]
    table = Table(
        id="sites",
        title="Sites",
        columns=columns(
            ("site", "Site"),
            ("state", "State"),
            ("seen", "Last seen", Kind.TIME),
            ("profile", "Profile", Kind.TEXT, "Of the centre"),
            ("hardware", "Hardware", Kind.TEXT, "Of one job"),
            ("allocations", "Allocations", Kind.TEXT, "Newest allocation per run"),
            ("rounds", "Open rounds"),
            ("software", "Software"),
            ("skew", "Clock", Kind.SECONDS, "Its clock behind the coordinator's, with what the courier took"),
            ("trip", "Round trip", Kind.SECONDS, "Of the courier, as measured"),
            ("leaves", "Ledger copy", Kind.COUNT, "Leaves that it holds"),
            ("cosigned", "Cosigned", Kind.COUNT),
            ("admitted", "Admitted", Kind.COUNT),
            ("missed", "Not admitted", Kind.COUNT),
            ("tokens", "Tokens", Kind.COUNT),
            ("hours", "Training hours", Kind.NUMBER, "Time in inner steps whose reports are kept, all runs"),
            ("gpu_hours", "GPU-hours", Kind.NUMBER, "Used by its jobs, all runs"),
            ("queue", "Queue wait", Kind.SECONDS, "Of the newest job that began"),
            ("certificate", "Certificate", Kind.COUNT, "Days left"),
            ("window", "Hours and windows"),
        ),
        rows=tuple(rows),
        empty="No site is in the roster yet.",
    )
    return Page(title="Sites", path="/sites", nav="sites", notices=asked.faults(), sections=(table,))


def site_page(asked: Asked, name: str) -> Page:
    """One site. Raises UsageError: no such site."""
    state = asked.view.state
    if name not in _known(state):
        raise UsageError(f"site {name!r:.60}: not in roster version {state.roster_version}, nor a member of any run")
    seen = asked.view.observations.sites.get(name)
    facts = facts_figures(seen, asked.now)
    return Page(
        title=f"Site {name}",
        path=f"/site/{name}",
        nav="sites",
        trail=(Link(text="Sites", href="/sites"),),
        notices=(*asked.faults(), *asked.attention(site=name)),
        sections=(
            _figures(asked, name),
            *((facts,) if facts is not None else ()),
            _allocations(seen),
            _participations(seen),
            budget_table(seen),
            _verdicts(state, name, asked.newest(NUM_VERDICTS)),
        ),
    )


def _known(state: Federation) -> set[str]:
    """Sites of the roster, and those that were once: what they did stays."""
    return {*state.sites, *state.revoked, *(m.site for run in state.runs.values() for m in run.plan.members)}


def _row(asked: Asked, site: str) -> dict[str, Any]:
    view = asked.view
    seen = view.observations.sites.get(site)
    status = seen.status if seen else None
    return {
        "site": Link(text=site, href=f"/site/{site}"),
        "state": site_state(view.state, site),
        "seen": seen.received_at if seen else None,
        "allocations": ", ".join(f"{a.run}: {a.state.value}" for a in status.allocations) if status else None,
        "rounds": ", ".join(f"{p.run}/{p.round} {p.phase.value}" for p in status.participations) if status else None,
        "software": (status.software or None) if status else None,
        "skew": clock_skew_seconds(seen),
        "trip": (status.measured_round_trip_seconds or None) if status else None,
        "leaves": status.ledger_size if status else None,
        "cosigned": view.observations.witnessed.get(site),
        **_tally(asked, site),
        "hours": _hours(asked, site),
        **facts_row(seen, asked.now),
    }


def _tally(asked: Asked, site: str) -> dict[str, int]:
    tallies = [tally.site(site) for tally in asked.view.history.tallies.runs.values()]
    return {
        "admitted": sum(tally.admitted for tally in tallies),
        "missed": sum(tally.not_admitted for tally in tallies),
        "tokens": sum(tally.tokens for tally in tallies),
    }


def _hours(asked: Asked, site: str) -> float | None:
    """n/a where no step was reported."""
    found = [s.seconds for run in asked.view.losses.runs for s in asked.view.losses.of(run, site).values()]
    return sum(found) / 3600 if found else None


def _figures(asked: Asked, site: str) -> Figures:
    row = _row(asked, site)
    kinds = {"seen": Kind.TIME, "skew": Kind.SECONDS, "trip": Kind.SECONDS, "hours": Kind.NUMBER}
    kinds |= dict.fromkeys(("leaves", "cosigned", "admitted", "missed", "tokens"), Kind.COUNT)
    titles = {
        "state": "State",
        "seen": "Last seen",
        "software": "Software",
        "skew": "Clock behind",
        "trip": "Round trip",
        "leaves": "Leaves of its copy",
        "cosigned": "Leaves cosigned",
        "admitted": "Updates admitted",
        "missed": "Not admitted",
        "tokens": "Tokens",
        "hours": "Training hours",
    }
    items = [Figure(title=t, value=row[key], kind=kinds.get(key, Kind.TEXT)) for key, t in titles.items()]
    waits = asked.view.observations.sites.get(site)
    if waits is not None and waits.status.waits_for_witnesses:
        items.append(Figure(title="Waits", value="for cosignatures of other sites", tone="warn"))
    return Figures(items=tuple(items))


def _allocations(seen: SiteSeen | None) -> Table:
    rows = [
        {
            "run": Link(text=a.run, href=f"/run/{a.run}"),
            "allocation": a.allocation,
            "state": a.state.value,
            "left": a.seconds_left if a.seconds_left >= 0 else None,
            "step": a.seconds_per_step or None,
            "start": a.start_in_seconds or None,
        }
        for a in (seen.status.allocations if seen else ())
    ]
    return Table(
        id="allocations",
        title="Allocations",
        columns=columns(
            ("run", "Run"),
            ("allocation", "Allocation"),
            ("state", "State"),
            ("left", "Time left", Kind.SECONDS, "Until its wall time"),
            ("step", "Per step", Kind.SECONDS),
            ("start", "Starts in", Kind.SECONDS, "As the batch system expects it"),
        ),
        rows=tuple(rows),
        empty="It has reported no allocation.",
    )


def _participations(seen: SiteSeen | None) -> Table:
    rows = [
        {
            "round": Link(text=f"{p.run}/{p.round}", href=f"/run/{p.run}/round/{p.round}"),
            "phase": p.phase.value,
            "step": p.step,
            "loss": p.loss if p.loss and isfinite(p.loss) else None,
        }
        for p in (seen.status.participations if seen else ())
    ]
    return Table(
        id="participations",
        title="Open rounds",
        columns=columns(
            ("round", "Round"), ("phase", "Phase"), ("step", "Step", Kind.COUNT), ("loss", "Loss", Kind.NUMBER)
        ),
        rows=tuple(rows),
        empty="It takes part in no open round.",
    )


def _verdicts(state: Federation, site: str, newest: int | None) -> Table:
    found = [
        (r.opened_at_us, run.id, r.number, verdict)
        for run in state.runs.values()
        for r in run.rounds.values()
        if (verdict := r.verdicts.get(site)) is not None
    ]
    found.sort(key=lambda entry: entry[:3], reverse=True)
    rows = [
        {
            "round": Link(text=f"{run}/{number}", href=f"/run/{run}/round/{number}"),
            "opened": opened / 1e6,
            "outcome": verdict.outcome.value,
            "why": verdict_words(verdict),
            "bytes": verdict.payload_bytes or None,
            "norm": verdict.norm or None,
        }
        for opened, run, number, verdict in found[:newest]
    ]
    return Table(
        id="verdicts",
        title="What became of its updates",
        columns=columns(
            ("round", "Round"),
            ("opened", "Opened", Kind.TIME),
            ("outcome", "Outcome"),
            ("why", "Why"),
            ("bytes", "Sent up", Kind.BYTES),
            ("norm", "Norm", Kind.NUMBER),
        ),
        rows=tuple(rows),
        num_rows=len(found),
        empty="No round has decided on an update of it yet.",
    )
