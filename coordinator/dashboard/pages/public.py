# SPDX-License-Identifier: Apache-2.0
"""The page for everybody, where the consortium wants one: only the fields that coordinator.toml names."""

from dataclasses import replace
from typing import Final

from coordinator.dashboard.page import Figure, Figures, Page, Section
from coordinator.dashboard.pages.progress import progress_of
from coordinator.dashboard.pages.request import Asked
from coordinator.dashboard.pages.run_charts import overall_chart
from coordinator.dashboard.public_fields import PUBLIC_FIELDS
from coordinator.dashboard.tables import Column, Kind, Table
from federation.errors import UsageError
from federation.ledger_state import Run

FIELDS: Final = {
    "state": Column(key="state", title="State"),
    "progress": Column(key="progress", title="Progress", kind=Kind.RATIO),
    "commits": Column(key="commits", title="Commits", kind=Kind.COUNT),
    "end": Column(key="end", title="Forecast of the end", kind=Kind.TIME),
    "sites": Column(key="sites", title="Sites", kind=Kind.COUNT),
    "site-names": Column(key="site-names", title="Names of the sites"),
    "tokens": Column(key="tokens", title="Tokens", kind=Kind.COUNT),
    "scores": Column(key="scores", title="Bits per byte", kind=Kind.NUMBER),
    "ledger": Column(key="ledger", title="Ledger"),
}
assert tuple(FIELDS) == PUBLIC_FIELDS


def public_page(asked: Asked) -> Page:
    """Runs with the chosen fields. Raises UsageError: no public page is configured."""
    chosen = [name for name in asked.public if name in FIELDS]
    if not chosen:
        raise UsageError("This consortium has no public page.")
    runs = [run for _, run in sorted(asked.view.state.runs.items())]
    columns = (Column(key="run", title="Run"), *(FIELDS[name] for name in chosen if name not in ("scores", "ledger")))
    rows = tuple({"run": run.id, **_fields(asked, run)} for run in runs)
    sections: list[Section] = [Table(id="runs", title="Runs", columns=columns, rows=rows, empty="No runs yet.")]
    if "ledger" in chosen:
        log = asked.view.log
        sections.append(
            Figures(
                items=(
                    Figure(title="Leaves in the ledger", value=log.size, kind=Kind.COUNT),
                    Figure(title="Its root", value=log.tree.root().hex()),
                )
            )
        )
    if "scores" in chosen and runs:
        chart = overall_chart(asked.run(asked.usual_run()), asked.view)
        sections.append(replace(chart, title=f"{chart.title}, run {asked.usual_run()}"))
    return Page(title=asked.view.consortium, path="/public", nav="public", sections=tuple(sections))


def _fields(asked: Asked, run: Run) -> dict[str, object]:
    progress = progress_of(run, asked.view.times, asked.now, asked.liveness.works)
    return {
        "state": run.state.value,  # why a run is paused is not for everybody
        "progress": progress.share,
        "commits": run.num_commits(),
        "end": progress.end,
        "sites": len(run.plan.members),
        "site-names": ", ".join(member.site for member in run.plan.members),
        "tokens": asked.view.history.tallies.of(run.id).tokens,
    }
