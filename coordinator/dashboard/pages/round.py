# SPDX-License-Identifier: Apache-2.0
"""One round: who was invited, what became of each update, and why."""

from coordinator.dashboard.page import Figure, Figures, Page
from coordinator.dashboard.pages.request import Asked
from coordinator.dashboard.pages.timeline import timeline
from coordinator.dashboard.pages.words import round_words, verdict_words
from coordinator.dashboard.tables import Kind, Link, Table, columns
from coordinator.dashboard.times import RoundTimes
from federation.errors import UsageError
from federation.ids import short
from federation.ledger_state import Round, Run


def round_page(asked: Asked, name: str, text: str) -> Page:
    """One round. Raises UsageError: no such run or round."""
    run = asked.run(name)
    found = run.rounds.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if found is None:
        raise UsageError(f"round {text!r:.20}: run {run.id} has opened {run.next_round} rounds, from 0 on")
    times = asked.view.times.of(run.id, found.number)
    numbers = sorted(run.rounds)
    return Page(
        title=f"Round {found.number} of {run.id}",
        path=f"/run/{run.id}/round/{found.number}",
        nav="overview",
        trail=(
            Link(text="Overview", href="/"),
            Link(text=f"Run {run.id}", href=f"/run/{run.id}"),
            Link(text="Rounds", href=f"/run/{run.id}/rounds"),
        ),
        notices=asked.faults(),
        sections=(
            _figures(run, found, times),
            _participations(found, times),
            timeline(run, asked.view.times, asked.now, first=numbers.index(found.number), num_rounds=1),
        ),
    )


def _figures(run: Run, found: Round, times: RoundTimes) -> Figures:
    commit = found.commit
    opened, ended = times.opened_us / 1e6 or None, times.ended_us / 1e6 or None
    items = [
        Figure(title="State", value=round_words(found), hint=times.sentence),
        Figure(title="Fragment", value=f"{found.fragment} of {run.plan.num_fragments}"),
        Figure(title="Opened", value=opened, kind=Kind.TIME),
        Figure(title="Ended", value=ended, kind=Kind.TIME),
        Figure(title="In words", value=times.sentence or None),
        Figure(title="Base", value=f"version {found.base_version}, {short(found.base_digest)}", hint=found.base_digest),
    ]
    if commit is not None:
        items += [
            Figure(title="Model after it", value=short(commit.theta_digest), hint=commit.theta_digest),
            Figure(title="Commit", value=commit.blob_bytes, kind=Kind.BYTES),
            Figure(title="Norm of the aggregate", value=commit.aggregate_norm, kind=Kind.NUMBER),
            Figure(title="Its leaf", value=Link(text=str(times.commit_leaf), href=f"/ledger/{times.commit_leaf}")),
        ]
    return Figures(items=tuple(items))


def _participations(found: Round, times: RoundTimes) -> Table:
    weights = {update.site: update.weight for update in found.sealed}
    shares = {c.site: c for c in found.commit.contributions} if found.commit else {}
    rows = []
    for invitation in found.invitations:
        site = invitation.site
        verdict, share = found.verdicts.get(site), shares.get(site)
        invited, decided = times.invited_us.get(site, 0) / 1e6, times.verdict_us.get(site, 0) / 1e6
        rows.append(
            {
                "site": Link(text=site, href=f"/site/{site}"),
                "outcome": verdict.outcome.value if verdict else "not decided yet",
                "why": verdict_words(verdict) if verdict else None,
                "took": decided - invited if decided and invited else None,
                "steps": invitation.num_steps,
                "tokens": verdict.new_tokens if verdict else None,
                "bytes": verdict.payload_bytes if verdict else None,
                "weight": weights.get(site),
                "norm": share.norm if share else verdict.norm if verdict and verdict.norm else None,
                "cosine": share.cosine if share else None,
                "allocation": invitation.allocation,
                "update": short(verdict.update_digest) if verdict and verdict.update_digest else None,
            }
        )
    return Table(
        id="sites",
        title="What became of each site's part",
        columns=columns(
            ("site", "Site"),
            ("outcome", "Outcome"),
            ("why", "Why"),
            ("took", "Took", Kind.SECONDS, "From the invitation to the verdict"),
            ("steps", "Steps", Kind.COUNT, "Inner steps of its window"),
            ("tokens", "New tokens", Kind.COUNT),
            ("bytes", "Sent up", Kind.BYTES),
            ("weight", "Weight", Kind.NUMBER),
            ("norm", "Norm", Kind.NUMBER),
            ("cosine", "Cosine", Kind.NUMBER, "To the aggregate"),
            ("allocation", "Allocation"),
            ("update", "Signed update", Kind.TEXT, "Digest of the signed bytes"),
        ),
        rows=tuple(rows),
    )
