# SPDX-License-Identifier: Apache-2.0
"""The first page: is our model training?"""

from typing import Any

from coordinator.dashboard.page import Figure, Figures, Page
from coordinator.dashboard.pages.progress import progress_of
from coordinator.dashboard.pages.request import Asked
from coordinator.dashboard.pages.words import state_words
from coordinator.dashboard.tables import Kind, Link, Table, columns
from federation.ids import short
from federation.ledger_state import Run, RunState


def overview(asked: Asked) -> Page:
    """Runs, the ledger's head, and who cosigned it."""
    view = asked.view
    runs = [_run_row(asked, run) for _, run in sorted(view.state.runs.items())]
    return Page(
        title="Overview",
        path="/",
        nav="overview",
        notices=(*asked.faults(), *asked.attention()),
        sections=(_figures(asked), _runs(runs), _witnesses(asked)),
    )


def _figures(asked: Asked) -> Figures:
    view = asked.view
    running = sum(run.state is RunState.RUNNING for run in view.state.runs.values())
    seen = [s.received_at for s in view.observations.sites.values()]
    return Figures(
        items=(
            Figure(title="Runs in training", value=running, kind=Kind.COUNT),
            Figure(title="Sites", value=len(view.state.sites), kind=Kind.COUNT),
            Figure(title="Last word of a site", value=max(seen, default=None), kind=Kind.TIME),
            Figure(title="Leaves in the ledger", value=view.log.size, kind=Kind.COUNT),
            Figure(title="Ledger's root", value=short(view.log.tree.root().hex()), hint=view.log.tree.root().hex()),
            Figure(title="Roster version", value=view.rosters.current.version, kind=Kind.COUNT),
        )
    )


def _run_row(asked: Asked, run: Run) -> dict[str, Any]:
    progress = progress_of(run, asked.view.times, asked.now, asked.liveness.works)
    tally = asked.view.history.tallies.of(run.id)
    return {
        "run": Link(text=run.id, href=f"/run/{run.id}"),
        "state": state_words(run, asked.liveness.works),
        "progress": progress.share,
        "commits": run.num_commits(),
        "rounds": run.plan.num_rounds,
        "open": ", ".join(f"no. {number}" for number in run.open_rounds) or None,
        "last": progress.last_commit,
        "pace": progress.seconds_per_commit,
        "end": progress.end,
        "sites": len(run.plan.members),
        "tokens": tally.tokens,
        "up": tally.payload_bytes,
        "down": tally.blob_bytes * len(run.plan.members),
    }


def _runs(rows: list[dict[str, Any]]) -> Table:
    return Table(
        id="runs",
        title="Runs",
        columns=columns(
            ("run", "Run"),
            ("state", "State"),
            ("progress", "Progress", Kind.RATIO, "Committed of planned rounds"),
            ("commits", "Commits", Kind.COUNT),
            ("rounds", "Planned", Kind.COUNT, "Rounds that are planned"),
            ("open", "Open rounds"),
            ("last", "Last commit", Kind.TIME),
            ("pace", "Per commit", Kind.SECONDS, "Median time between the newest commits"),
            ("end", "Forecast of the end", Kind.TIME, "By the pace of the newest commits"),
            ("sites", "Sites", Kind.COUNT),
            ("tokens", "Tokens", Kind.COUNT, "New tokens of all admitted updates"),
            ("up", "Sent up", Kind.BYTES),
            ("down", "Sent down", Kind.BYTES, "Each commit once to each member"),
        ),
        rows=tuple(rows),
        empty="No runs yet. An operator makes one with `coordinator run create`.",
    )


def _witnesses(asked: Asked) -> Table:
    view = asked.view
    sizes = view.observations.witnessed
    rows = [
        {
            "site": Link(text=site, href=f"/site/{site}"),
            "size": sizes.get(site),
            "behind": view.log.size - sizes[site] if site in sizes else None,
        }
        for site in view.state.sites
    ]
    return Table(
        id="witnesses",
        title="Who cosigned the ledger",
        columns=columns(
            ("site", "Site"),
            ("size", "Leaves cosigned", Kind.COUNT),
            ("behind", "Leaves behind", Kind.COUNT, "Leaves that it has not cosigned yet"),
        ),
        rows=tuple(rows),
        empty="No site is in the roster yet.",
    )
