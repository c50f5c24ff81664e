# SPDX-License-Identifier: Apache-2.0
"""One run: where it stands, how each site does, its rounds, and why updates are missing."""

from itertools import islice
from typing import Any

from coordinator.dashboard.page import Figure, Figures, Links, Page
from coordinator.dashboard.pages.progress import progress_of
from coordinator.dashboard.pages.request import ROWS, Asked
from coordinator.dashboard.pages.run_charts import contribution_chart, loss_chart, overall_chart, utilisation
from coordinator.dashboard.pages.timeline import timeline
from coordinator.dashboard.pages.words import round_words, state_words, verdict_words
from coordinator.dashboard.tables import Kind, Link, Table, columns, pages_of
from coordinator.views import site_document
from federation.leaves import Outcome
from federation.ledger_state import Run, RunState


def run_page(asked: Asked, name: str) -> Page:
    """Everything at a glance. Raises UsageError: no such run."""
    run = asked.run(name)
    tally = asked.view.history.tallies.of(run.id)
    return Page(
        title=f"Run {run.id}",
        path=f"/run/{run.id}",
        nav="overview",
        trail=(Link(text="Overview", href="/"),),
        notices=(*asked.faults(), *asked.attention(run=run.id)),
        sections=(
            _figures(asked, run),
            _links(run),
            timeline(run, asked.view.times, asked.now),
            _sites(asked, run),
            overall_chart(run, asked.view),
            loss_chart(run, asked.view),
            contribution_chart(run, "norm", "Norm of the update per site", "Norm", tally.norms),
            contribution_chart(run, "cosine", "Cosine of the update to the aggregate", "Cosine", tally.cosines),
            _missing(run, asked.newest(ROWS), tally.not_admitted),
        ),
    )


def rounds_page(asked: Asked, name: str) -> Page:
    """All rounds, the newest first. Raises UsageError: no such run."""
    run = asked.run(name)
    table = rounds_table(asked, run)
    return Page(
        title=f"Rounds of {run.id}",
        path=f"/run/{run.id}/rounds",
        nav="overview",
        trail=(Link(text="Overview", href="/"), Link(text=f"Run {run.id}", href=f"/run/{run.id}")),
        notices=asked.faults(),
        sections=(table,),
        pages=pages_of(len(table.rows), ROWS),
        number=asked.number(),
    )


def missing_page(asked: Asked, name: str) -> Page:
    """All updates that were not admitted, and why. Raises UsageError: no such run."""
    run = asked.run(name)
    table = _missing(run, None, asked.view.history.tallies.of(run.id).not_admitted)
    return Page(
        title=f"Updates of {run.id} that were not admitted",
        path=f"/run/{run.id}/missing",
        nav="overview",
        trail=(Link(text="Overview", href="/"), Link(text=f"Run {run.id}", href=f"/run/{run.id}")),
        notices=asked.faults(),
        sections=(table,),
        pages=pages_of(len(table.rows), ROWS),
        number=asked.number(),
    )


def _figures(asked: Asked, run: Run) -> Figures:
    progress = progress_of(run, asked.view.times, asked.now, asked.liveness.works)
    tally = asked.view.history.tallies.of(run.id)
    tone = "warn" if run.state in (RunState.PAUSED, RunState.ABORTED) else ""
    why = run.pause.sentence if run.pause else ""
    return Figures(
        items=(
            Figure(title="State", value=state_words(run, asked.liveness.works), tone=tone, hint=why),
            Figure(title="Committed", value=f"{run.num_commits()} of {run.plan.num_rounds} rounds"),
            Figure(title="Open rounds", value=", ".join(f"no. {number}" for number in run.open_rounds) or "none"),
            Figure(title="Last commit", value=progress.last_commit, kind=Kind.TIME),
            Figure(title="Per commit", value=progress.seconds_per_commit, kind=Kind.SECONDS),
            Figure(title="Forecast of the end", value=progress.end, kind=Kind.TIME),
            Figure(title="Tokens", value=tally.tokens, kind=Kind.COUNT, hint="Of all admitted updates"),
            Figure(title="Sent up", value=tally.payload_bytes, kind=Kind.BYTES),
            Figure(
                title="Sent down",
                value=tally.blob_bytes * len(run.plan.members),
                kind=Kind.BYTES,
                hint="Each commit once to each member",
            ),
            Figure(
                title="Training, share of time",
                value=utilisation(run, asked.view, asked.now),
                kind=Kind.RATIO,
                hint="Of sites that report their steps, as far back as these are kept",
            ),
            Figure(title="Abandoned or reverted", value=len(run.void), kind=Kind.COUNT),
        )
    )


def _links(run: Run) -> Links:
    base = f"/run/{run.id}"
    return Links(
        title="More of this run",
        items=(
            Link(text="All rounds", href=f"{base}/rounds"),
            Link(text="Updates that were not admitted", href=f"{base}/missing"),
            Link(text="Languages", href=f"/languages?run={run.id}"),
            Link(text="Its leaves in the ledger", href=f"/ledger?q=run+{run.id}"),
        ),
    )


def _sites(asked: Asked, run: Run) -> Table:
    observations, state = asked.view.observations, asked.view.state
    rows: list[dict[str, Any]] = []
    for member in run.plan.members:
        now = site_document(state, observations, run, member.site)
        answer = run.answers.get(member.site)
        tally = asked.view.history.tallies.of(run.id).site(member.site)
        rows.append(
            {
                "site": Link(text=member.site, href=f"/site/{member.site}"),
                "state": now["state"],
                "answer": "none yet" if answer is None else "accepted" if answer.accepted else "declined",
                "allocation": now["allocation"],
                "phase": now["phase"] if now["round"] is not None else None,
                "round": now["round"],
                "step": now["step"] if now["round"] is not None else None,
                "steps": member.num_inner_steps,
                "loss": now["loss"] or None,
                "seconds_per_step": now["seconds_per_step"] or None,
                "seen": now["last_seen"],
                "admitted": tally.admitted,
                "missed": tally.not_admitted,
                "tokens": tally.tokens,
                "up": tally.payload_bytes,
            }
        )
    return Table(
        id="sites",
        title="Sites now",
        columns=columns(
            ("site", "Site"),
            ("state", "State"),
            ("answer", "Answer", Kind.TEXT, "What the site's policy said to this run"),
            ("allocation", "Allocation"),
            ("phase", "Phase"),
            ("round", "Round", Kind.COUNT),
            ("step", "Step", Kind.COUNT, "Inner steps done of its window"),
            ("steps", "H", Kind.COUNT, "Inner steps between two boundaries of one fragment"),
            ("loss", "Loss", Kind.NUMBER),
            ("seconds_per_step", "Per step", Kind.SECONDS),
            ("seen", "Last seen", Kind.TIME),
            ("admitted", "Admitted", Kind.COUNT, "Updates that were admitted"),
            ("missed", "Not admitted", Kind.COUNT, "Rounds that it was invited to and no update of it counts in"),
            ("tokens", "Tokens", Kind.COUNT),
            ("up", "Sent up", Kind.BYTES),
        ),
        rows=tuple(rows),
    )


def rounds_table(asked: Asked, run: Run) -> Table:
    """All rounds, the newest first."""
    rows = []
    for number in sorted(run.rounds, reverse=True):
        found, times = run.rounds[number], asked.view.times.of(run.id, number)
        opened, ended = times.opened_us / 1e6, times.ended_us / 1e6
        rows.append(
            {
                "round": Link(text=str(number), href=f"/run/{run.id}/round/{number}"),
                "fragment": found.fragment,
                "state": round_words(found),
                "invited": len(found.invitations),
                "admitted": len(found.admitted()),
                "waits": ", ".join(found.waiting_for()) or None,
                "opened": opened or None,
                "took": ended - opened if ended and opened else None,
                "up": sum(v.payload_bytes for v in found.admitted()),
                "down": found.commit.blob_bytes if found.commit else None,
                "norm": found.commit.aggregate_norm if found.commit else None,
                "why": times.sentence or None,
            }
        )
    return Table(
        id="rounds",
        title="Rounds",
        columns=columns(
            ("round", "Round", Kind.COUNT),
            ("fragment", "Fragment", Kind.COUNT),
            ("state", "State"),
            ("invited", "Invited", Kind.COUNT),
            ("admitted", "Admitted", Kind.COUNT),
            ("waits", "Waits for"),
            ("opened", "Opened", Kind.TIME),
            ("took", "Took", Kind.SECONDS),
            ("up", "Sent up", Kind.BYTES),
            ("down", "Commit", Kind.BYTES),
            ("norm", "Norm of the aggregate", Kind.NUMBER),
            ("why", "In words"),
        ),
        rows=tuple(rows),
        empty="No round was opened yet.",
    )


def _missing(run: Run, limit: int | None, num_rows: int) -> Table:
    """Updates that were not admitted, the newest first; `num_rows` is how many there are."""
    found = (
        (number, site, verdict)
        for number in sorted(run.rounds, reverse=True)
        for site, verdict in sorted(run.rounds[number].verdicts.items())
        if verdict.outcome is not Outcome.ADMITTED
    )
    rows = [
        {
            "round": Link(text=str(number), href=f"/run/{run.id}/round/{number}"),
            "site": Link(text=site, href=f"/site/{site}"),
            "outcome": verdict.outcome.value,
            "why": verdict_words(verdict),
        }
        for number, site, verdict in islice(found, limit)
    ]
    return Table(
        id="missing",
        title="Updates that were not admitted",
        columns=columns(("round", "Round", Kind.COUNT), ("site", "Site"), ("outcome", "Outcome"), ("why", "Why")),
        rows=tuple(rows),
        num_rows=num_rows,
        empty="Every update of every invited site was admitted so far.",
    )
