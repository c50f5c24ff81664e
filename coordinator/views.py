# SPDX-License-Identifier: Apache-2.0
"""Projections for people: JSON documents made from ledger state and reports. Read-only."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from coordinator.consequences import of_abort
from coordinator.disagreement import disagreements
from coordinator.metrics_desk import Question
from coordinator.observations import Observations
from coordinator.run_details import (
    pace_document,
    plan_document,
    round_details,
    site_details,
    trouble_document,
)
from coordinator.site_views import network_document, problems, site_line, site_state, sites_document
from coordinator.suggestions import NOTHING
from coordinator.timeline import RoundTimes, RunTimes
from federation.errors import FederationError, UsageError
from federation.kernels.dispatch import compiler
from federation.leaves import EvaluationRecordedV1, Outcome, TasksEvaluatedV1
from federation.messages import Query, QueryKind, QueryReply
from federation.rounds import Federation, Round, RoundState, Run

if TYPE_CHECKING:
    from coordinator.service import Coordinator

Document = dict[str, Any]
NEWEST_ROUNDS = 50
NEWEST_TASK_SCORES = 5000

MAX_EVALUATIONS = 400
"""Newest evaluations in a document, which has to fit into a message; those of the first model come with them."""


def answer_query(coordinator: Coordinator, query: Query) -> tuple[QueryReply, tuple[str, ...]]:
    """The reply to a query, and the blobs that go with it."""
    try:
        document, blobs = _answer(coordinator, query)
    except FederationError as error:
        return QueryReply(id=query.id, ok=False, sentence=error.diagnostics()), ()
    return QueryReply(id=query.id, ok=True, sentence="", document=as_json(document)), blobs


def as_json(document: Document) -> str:
    """A document as text; a number that is none, which a site may have sent, is null: JSON has no word for it."""
    try:
        return json.dumps(document, allow_nan=False)
    except ValueError:
        return json.dumps(_with_null(document), allow_nan=False)


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_null(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _answer(coordinator: Coordinator, query: Query) -> tuple[Document, tuple[str, ...]]:
    state = coordinator.state
    if query.kind is QueryKind.RUNS:
        return {"runs": [summary(run) for _, run in sorted(state.runs.items())], "ledger": ledger(coordinator)}, ()
    if query.kind is QueryKind.SITES:
        return sites_document(coordinator, query.subject), ()
    if query.kind is QueryKind.STATUS:
        return status_document(coordinator), ()
    run = run_named(state, query.subject)
    if query.kind is QueryKind.RUN:
        return run_document(coordinator, run), ()
    return model_document(coordinator, run, query.number)


def run_named(state: Federation, name: str) -> Run:
    """A run. Raises UsageError if there is none of that name."""
    if name not in state.runs:
        raise UsageError(f"run {name!r}: no run of that name; known runs: {', '.join(sorted(state.runs)) or 'none'}")
    return state.runs[name]


def metrics_question(coordinator: Coordinator, operator: str, query: Query) -> Question:
    """What a reply to a question for a run's metrics is made from: the ledger as it is now.

    Raises:
        UsageError: there is no such run.
    """
    run, book = run_named(coordinator.state, query.subject), coordinator.ledger
    return Question(
        operator=operator,
        query=query,
        size=book.size,
        sites=tuple(member.site for member in run.plan.members),
        document={**summary(run), "ledger": {"size": book.size, "checkpoint": book.checkpoint().decode()}},
    )


def status_document(coordinator: Coordinator) -> Document:
    """What `coordinator status` prints: everything at a glance."""
    state, roster = coordinator.state, coordinator.rosters.current
    return {
        "consortium": roster.consortium,
        "roster": {
            "version": roster.version,
            "issued_at_us": roster.issued_at_us,
            "expires_at_us": roster.expires_at_us,
            "root": coordinator.rosters.fingerprint,
        },
        "ledger": ledger(coordinator),
        "runs": [summary(run) for _, run in sorted(state.runs.items())],
        "sites": [site_line(coordinator, site) for site in sorted({*state.sites, *state.revoked})],
        "network": network_document(coordinator),
        "problems": problems(coordinator),
        "compiler": compiler(),
    }


def ledger(coordinator: Coordinator) -> Document:
    """Head of the ledger and who cosigned how much of it."""
    book = coordinator.ledger
    return {
        "size": book.size,
        "root": book.root(),
        "checkpoint": book.checkpoint().decode(),
        "witnessed": dict(coordinator.observations.witnessed),
    }


def summary(run: Run) -> Document:
    """One line of `run list`."""
    return {
        "run": run.id,
        "state": run.state.value,
        "commits": run.num_commits(),
        "rounds": run.plan.num_rounds,
        "sites": [m.site for m in run.plan.members],
        "manifest_digest": run.manifest_digest,
        "reason": run.pause.sentence if run.pause else "",
    }


def run_document(coordinator: Coordinator, run: Run) -> Document:
    """Everything that `run show` and `run watch` print."""
    state, observations = coordinator.state, coordinator.observations
    newest, times = sorted(run.rounds)[-NEWEST_ROUNDS:], coordinator.timelines.of(run)
    return {
        **summary(run),
        **pace_document(run, times),
        **trouble_document(coordinator, run),
        "plan": plan_document(run),
        "approved_by": list(run.approved_by),
        "answers": {s: {"accepted": a.accepted, "reason": a.reason.value} for s, a in sorted(run.answers.items())},
        "open_rounds": list(run.open_rounds),
        "missed": missed(run),
        "sites_now": {m.site: site_document(state, observations, run, m.site, times) for m in run.plan.members},
        "suggested_starts": coordinator.starts.newest.get(run.id, NOTHING).sentence,
        "round_log": [round_document(run.rounds[number], times.rounds.get(number, RoundTimes())) for number in newest],
        "heads": [{"fragment": i, "version": v.number, "theta": v.theta_digest} for i, v in enumerate(run.heads())],
        "bytes": bytes_document(run),
        "evaluations": [evaluation_document(e) for e in newest_evaluations(run)],
        "tasks": newest_tasks(run),
        "disagreements": list(disagreements(run)),
        "ledger": ledger(coordinator),
        "abort": list(of_abort(state, run)),
    }


def missed(run: Run) -> Document:
    """Per site how many rounds go or went without its update, by reason."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for found in run.rounds.values():
        for member in run.plan.members:
            verdict = found.verdicts.get(member.site)
            if found.invitation(member.site) is None:
                counts[member.site]["not invited"] += 1
            elif verdict is not None and verdict.outcome is not Outcome.ADMITTED:
                counts[member.site][f"{verdict.outcome.value}: {verdict.reason.value}"] += 1
    return {site: dict(reasons) for site, reasons in sorted(counts.items())}


def site_document(
    state: Federation, observations: Observations, run: Run, site: str, times: RunTimes | None = None
) -> Document:
    """What is known of a site now."""
    seen = observations.sites.get(site)
    open_reports = [p for p in seen.status.participations if p.run == run.id] if seen else []
    allocations = [a for a in seen.status.allocations if a.run == run.id] if seen else []
    newest = open_reports[-1] if open_reports else None
    return {
        "drained": site in state.drained,
        "state": site_state(state, site),
        "last_seen": seen.received_at if seen else None,
        "allocation": allocations[-1].state.value if allocations else "none",
        "phase": newest.phase.value if newest else "waiting",
        "round": newest.round if newest else None,
        "step": newest.step if newest else 0,
        "loss": newest.loss if newest and isfinite(newest.loss) else None,
        "seconds_per_step": allocations[-1].seconds_per_step if allocations else 0.0,
        "waits_for_witnesses": bool(seen and seen.status.waits_for_witnesses),
        "applied": [a for a in seen.status.applied if a.startswith(f"{run.id}:")] if seen else [],
        **site_details(run, site, seen, times or RunTimes(run.id)),
    }


def round_document(found: Round, times: RoundTimes) -> Document:
    """One round."""
    commit = found.commit
    return {
        "round": found.number,
        "fragment": found.fragment,
        "state": "reverted" if found.reverted else found.state.value,
        "invited": [i.site for i in found.invitations],
        "verdicts": {
            s: {"outcome": v.outcome.value, "reason": v.reason.value, "sentence": v.sentence, "norm": v.norm}
            for s, v in sorted(found.verdicts.items())
        },
        "theta": commit.theta_digest if commit else "",
        "blob_bytes": commit.blob_bytes if commit else 0,
        "payload_bytes": sum(v.payload_bytes for v in found.admitted()),
        "opened_at_us": found.opened_at_us,
        "cosine": {c.site: c.cosine for c in commit.contributions} if commit else {},
        **round_details(found, times),
    }


def bytes_document(run: Run) -> Document:
    """Payload bytes so far, up and down (one copy of each commit per member)."""
    committed = [r for r in run.rounds.values() if r.state is RoundState.COMMITTED]
    up = sum(v.payload_bytes for r in run.rounds.values() for v in r.admitted())
    down = sum(r.commit.blob_bytes for r in committed if r.commit) * len(run.plan.members)
    return {"up": up, "down": down, "tokens": sum(v.new_tokens for r in run.rounds.values() for v in r.admitted())}


def newest_evaluations(run: Run) -> list[EvaluationRecordedV1]:
    """Those of models in force, or what there is room for; what was rolled back would pass for what came after."""
    in_force = list(run.of_models_in_force(run.evaluations))
    older, newest = in_force[:-MAX_EVALUATIONS], in_force[-MAX_EVALUATIONS:]
    first = min((found.num_commits for found in in_force), default=0)
    return [*(found for found in older if found.num_commits == first), *newest]


def evaluation_document(evaluation: Any) -> Document:
    """One site's scores of one model."""
    return {
        "site": evaluation.site,
        "request": evaluation.request,
        "commits": evaluation.num_commits,
        "versions": list(evaluation.versions),
        "bits_per_byte": {s.language: s.bits_per_byte for s in evaluation.scores},
        "num_bytes": {s.language: s.num_bytes for s in evaluation.scores},
    }


def newest_tasks(run: Run) -> list[Document]:
    """Task evaluations, the newest last, as many as hold `NEWEST_TASK_SCORES`: a reply has a longest length."""
    shown: list[Document] = []
    num_scores = 0
    for evaluation in reversed(run.task_evaluations):
        num_scores += len(evaluation.scores)
        if num_scores > NEWEST_TASK_SCORES:
            break
        shown.insert(0, tasks_document(evaluation))
    return shown


def tasks_document(evaluation: TasksEvaluatedV1) -> Document:
    """One site's scores of benchmark tasks of one model."""
    return {
        "site": evaluation.site,
        "request": evaluation.request,
        "commits": evaluation.num_commits,
        "versions": list(evaluation.versions),
        "scores": [asdict(score) for score in evaluation.scores],
    }


def model_document(coordinator: Coordinator, run: Run, number: int) -> tuple[Document, tuple[str, ...]]:
    """The chain of blobs that defines the model after a round (-1: now), with the digests to check it by.

    Raises:
        UsageError: the round is not committed or was reverted.
    """
    if number >= 0:
        found = run.rounds.get(number)
        if found is None or found.state is not RoundState.COMMITTED or found.reverted:
            raise UsageError(f"run {run.id}: round {number} is not a commit in force")
    manifest = coordinator.manifest_of(run.id)
    chains = [[v for v in chain if number < 0 or v.number <= number + 1] for chain in run.versions]
    document = {
        "manifest_digest": run.manifest_digest,
        "theta_blob": manifest.theta_blob,
        "chains": [[{"version": v.number, "blob": v.blob_digest, "theta": v.theta_digest} for v in c] for c in chains],
    }
    blobs = [v.blob_digest for chain in chains for v in chain if v.blob_digest]
    return document, (run.manifest_digest, manifest.theta_blob, *blobs)
