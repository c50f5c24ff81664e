# SPDX-License-Identifier: Apache-2.0
"""What is the case with a site's part in a run: its updates, its losses, its scores. Pure."""

from collections.abc import Iterator, Mapping
from math import isfinite
from statistics import median
from typing import Final

from coordinator.notices.notice import Kind, Notice, Severity, notice
from coordinator.notices.snapshot import Snapshot
from coordinator.notices.text import listed, sentences
from coordinator.notices.thresholds import Thresholds
from federation.leaves import EvaluationRecordedV1, Outcome, Reason, VerdictV1
from federation.rounds import Round, Run

MAX_ROUNDS_LOOKED_AT: Final = 100
"""Back from the newest one; who was invited to none of them has no newest update."""

_KINDS: Final[Mapping[Outcome, tuple[Kind, Severity, str]]] = {
    Outcome.REJECTED: (Kind.UPDATE_REJECTED, Severity.WARNING, "update rejected"),
    Outcome.DECLINED: (Kind.UPDATE_DECLINED, Severity.WARNING, "round declined"),
    Outcome.MISSED: (Kind.UPDATE_MISSED, Severity.INFO, "round missed"),
}

_ADVICE: Final[Mapping[Reason, str]] = {
    Reason.BUDGET: "Its budget is spent: the site's operator may raise it in policy.toml.",
    Reason.POLICY: "Its policy says no: the site's operator may change policy.toml.",
    Reason.JOB_FAILED: "site-agent status SITE_DIR names the failure of its job.",
    Reason.LOSS_SPIKE: "Look at its data and learning rate; coordinator site drain NAME leaves it out meanwhile.",
    Reason.NON_FINITE: "Its training went to NaN: look at its job's log; coordinator site drain NAME leaves it out.",
    Reason.NORM_TOO_LARGE: "Look at its data and learning rate; coordinator site drain NAME leaves it out meanwhile.",
    Reason.DIVERGED: "Its copy of the model differs and is loaded again by itself; if it goes on, check its numerics.",
    Reason.LATE: "It came after the round ended: are the bounds of run.toml too tight for this site?",
}
_OTHERWISE: Final = "site-agent status SITE_DIR and its log say more; site-agent doctor SITE_DIR checks the site."


def participation_notices(snapshot: Snapshot, run: Run, thresholds: Thresholds) -> Iterator[Notice]:
    """Notices of each member of one run."""
    newest = _newest_rounds(run, thresholds.recent_rounds)
    scores = _newest_evaluations(run)
    for member in run.plan.members:
        site = member.site
        if site in snapshot.state.revoked:
            continue
        yield from _updates(run, site, newest[site])
        yield from _manifest_declined(run, site)
        yield from _loss_spike(run, site, snapshot.losses.get((run.id, site), ()), thresholds)
        yield from _language_regression(run, site, scores.get(site, []), thresholds)


def _newest_rounds(run: Run, most: int) -> dict[str, list[Round]]:
    """Per member its newest rounds with a verdict, newest first."""
    found: dict[str, list[Round]] = {m.site: [] for m in run.plan.members}
    for number in range(run.next_round - 1, max(run.next_round - 1 - MAX_ROUNDS_LOOKED_AT, -1), -1):
        entry = run.rounds.get(number)
        for site in entry.verdicts if entry is not None else ():
            if entry is not None and len(found.get(site, ())) < most and site in found:
                found[site].append(entry)
        if all(len(rounds) >= most for rounds in found.values()):
            break
    return found


def _updates(run: Run, site: str, newest: list[Round]) -> Iterator[Notice]:
    told: set[Kind] = set()
    for entry in newest:
        verdict = entry.verdicts[site]
        if _is_equivocation(entry, verdict) and Kind.EQUIVOCATION not in told:
            told.add(Kind.EQUIVOCATION)
            yield _equivocation(run, site, entry)
        kind, severity, words = _KINDS.get(verdict.outcome, (None, Severity.INFO, ""))
        if kind is not None and kind not in told:
            told.add(kind)
            yield notice(
                kind,
                severity,
                what=f"run {run.id}: {site}: {words} in round {entry.number} ({verdict.reason.value})",
                why=verdict.sentence,
                advice=_ADVICE.get(verdict.reason, _OTHERWISE).replace("NAME", site),
                run=run.id,
                site=site,
                since=entry.opened_at_us / 1e6,
            )


def _is_equivocation(entry: Round, verdict: VerdictV1) -> bool:
    """A payload has its verdict, and another leaf followed: only a second, different claim for the round causes one."""
    if verdict.outcome is Outcome.EQUIVOCATION:
        return True
    return bool(verdict.payload_digest) and entry.num_verdict_leaves.get(verdict.site, 0) > 1


def _equivocation(run: Run, site: str, entry: Round) -> Notice:
    return notice(
        Kind.EQUIVOCATION,
        Severity.CRITICAL,
        what=f"run {run.id}: {site} signed two different updates for round {entry.number}",
        why="the first one stands, the second is kept as evidence",
        advice=f"Ask the site: an old backup, or a stolen key? coordinator site revoke {site} --as DIR shuts it out.",
        run=run.id,
        site=site,
        since=entry.opened_at_us / 1e6,
    )


def _manifest_declined(run: Run, site: str) -> Iterator[Notice]:
    answer = run.answers.get(site)
    if answer is not None and not answer.accepted:
        yield notice(
            Kind.MANIFEST_DECLINED,
            Severity.WARNING,
            what=f"run {run.id}: {site} declined the manifest ({answer.reason.value})",
            why="it takes no part, and does not count in the quorum's share",
            advice="Its operator sees why: site-agent run list; site-agent run accept takes it if the policy asks.",
            run=run.id,
            site=site,
        )


def _loss_spike(run: Run, site: str, losses: tuple[float, ...], thresholds: Thresholds) -> Iterator[Notice]:
    earlier = [loss for loss in losses[:-1] if isfinite(loss)]
    if len(earlier) < thresholds.loss_least:
        return
    usual, newest = median(earlier), losses[-1]
    if isfinite(newest) and newest <= thresholds.loss_spike_ratio * usual:
        return
    yield notice(
        Kind.LOSS_SPIKE,
        Severity.WARNING,
        what=f"run {run.id}: {site}: loss spike",
        why=f"newest loss {newest:.4g}, median of the {len(earlier)} before it {usual:.4g}",
        advice=f"Look at its data and learning rate; coordinator site drain {site} --as DIR leaves it out meanwhile.",
        run=run.id,
        site=site,
    )


def _newest_evaluations(run: Run) -> dict[str, list[EvaluationRecordedV1]]:
    """Per site, of models in force, its newest evaluation and the newest of a model with fewer commits before that."""
    found: dict[str, list[EvaluationRecordedV1]] = {}
    for evaluation in reversed(run.evaluations):
        if run.is_void(evaluation.versions):
            continue
        mine = found.setdefault(evaluation.site, [])
        if not mine or (len(mine) == 1 and evaluation.num_commits < mine[0].num_commits):
            mine.append(evaluation)
    return found


def _language_regression(
    run: Run, site: str, newest: list[EvaluationRecordedV1], thresholds: Thresholds
) -> Iterator[Notice]:
    if len(newest) < 2:
        return
    now, before = newest
    known = {score.language: score for score in before.scores}
    worse: list[tuple[float, str]] = []
    for score in now.scores:
        old = known.get(score.language)
        if old is None or old.num_bytes != score.num_bytes or old.bits_per_byte <= 0:
            continue
        percent = 100.0 * (score.bits_per_byte / old.bits_per_byte - 1.0)
        if score.bits_per_byte > old.bits_per_byte * (1.0 + thresholds.language_regression_percent / 100.0):
            words = f"{score.language} {old.bits_per_byte:.3f} to {score.bits_per_byte:.3f} (+{percent:.1f}%)"
            worse.append((percent, words))
    if worse:
        words = listed(text for _, text in sorted(worse, reverse=True))
        yield notice(
            Kind.LANGUAGE_REGRESSION,
            Severity.WARNING,
            what=f"run {run.id}: {len(worse)} of {len(now.scores)} languages got worse at {site}",
            why=sentences(f"bits per byte from {before.num_commits} to {now.num_commits} commits: {words}"),
            advice=f"Compare others and later scores; coordinator run rollback {run.id} --to-round N --as DIR undoes.",
            run=run.id,
            site=site,
        )
