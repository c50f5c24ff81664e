# SPDX-License-Identifier: Apache-2.0
"""Decisions about scores of benchmark tasks that sites send. No I/O."""

from coordinator.inputs import TasksReceived
from coordinator.messages_in import is_of_a_model
from federation import leaves as lv
from federation.messages import TaskEvaluation
from federation.rounds import Federation
from federation.task_history import is_news
from federation.task_scores import problem_of


def decide_tasks(state: Federation, event: TasksReceived) -> list[lv.Body]:
    """One leaf per (site, request, model), if the versions are those that the ledger had then; none for a repetition.

    Each further leaf of a site is of a newer model than the oldest that is kept, so that their number is bounded.
    """
    found = event.evaluation
    if why_not(state, found):
        return []
    if not is_news(state.runs[found.run], found.site, found.request, found.num_commits, found.versions):
        return []
    return [
        lv.TasksEvaluatedV1(
            run=found.run,
            site=found.site,
            request=found.request,
            num_commits=found.num_commits,
            versions=found.versions,
            scores=found.scores,
            evidence_digest=event.evidence_digest,
        )
    ]


def why_not(state: Federation, found: TaskEvaluation) -> str:
    """Why this is never recorded, for the security log; "" if nothing is wrong. Quotes nothing that the site wrote."""
    run = state.runs.get(found.run)
    if run is None or not run.is_member(found.site):
        return "task evaluation: expected one of a run that has this site as a member"
    if found.site in state.revoked:
        return "task evaluation: expected one of a site that is not revoked"
    if not is_of_a_model(run, found):
        return (
            f"task evaluation: expected a model of the ledger, found other versions after {found.num_commits} commits"
        )
    problem = problem_of(found.scores)
    return f"task evaluation: {problem}" if problem else ""
