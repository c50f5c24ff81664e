# SPDX-License-Identifier: Apache-2.0
"""Leaves with scores of benchmark tasks: signed by the site, of a model that was current once, plausible, each once."""

from federation import leaves as lv
from federation.errors import FederationError
from federation.task_history import is_news
from federation.task_scores import problem_of
from federation.verify.context import At
from federation.verify.report import Check
from federation.verify.runs import check_model, check_not_revoked
from federation.verify.updates import opened_tasks


def check_tasks(at: At, body: lv.TasksEvaluatedV1) -> None:
    """Signed by the site, says what the leaf says, of a model that the ledger had, and nothing that is no score."""
    run, place, before = at.state.runs[body.run], at.place(body.run), at.findings.failed[Check.EVALUATIONS]
    if not run.is_member(body.site):
        at.findings.differ(Check.EVALUATIONS, place, "task evaluation", "one of a member", f"one of {body.site}")
    if not is_news(run, body.site, body.request, body.num_commits, body.versions):
        what = f"task evaluation by {body.site}"
        at.findings.differ(Check.EVALUATIONS, place, what, "one of each model, none of an older one", "another one")
    check_not_revoked(at, Check.EVALUATIONS, place, "task evaluation", body.site)
    check_model(at, run, body)
    if problem := problem_of(body.scores):
        at.findings.differ(Check.EVALUATIONS, place, f"scores of {body.site}", "scores that a leaf may hold", problem)
    if at.evidence.require(body.evidence_digest, place, f"signed task evaluation of {body.site}"):
        _check_signed(at, body)
    at.settle(Check.EVALUATIONS, before)


def _check_signed(at: At, body: lv.TasksEvaluatedV1) -> None:
    place, what = at.place(body.run), f"task evaluation of {body.site}"
    try:
        signed = opened_tasks(at, body.site, body.evidence_digest)
    except FederationError as error:
        at.findings.differ(Check.EVALUATIONS, place, what, "one that the site signed", error)
        return
    for name in ("run", "site", "request", "num_commits", "versions", "scores"):
        at.findings.compare(
            Check.EVALUATIONS, place, f"{name} of the {what}", getattr(signed, name), getattr(body, name)
        )
