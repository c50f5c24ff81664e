# SPDX-License-Identifier: Apache-2.0
"""Scores of benchmark tasks: per site those of the newest model that it scored and that is in force."""

from coordinator.dashboard.tables import Column, Kind, Link, Table
from federation.languages import find, sort_key
from federation.leaves import TasksEvaluatedV1
from federation.ledger_state import Run


def _code(language: str) -> str:
    """As in the table of languages, with what the task itself says."""
    found = find(language)
    return language if found is None or found.code == language else f"{found.code} ({language})"


def task_table(run: Run) -> Table:
    """One row for each task, language, metric and site."""
    newest: dict[str, TasksEvaluatedV1] = {}
    for evaluation in run.task_evaluations:
        before = newest.get(evaluation.site)
        if evaluation.num_commits <= run.num_commits() and (
            before is None or evaluation.num_commits >= before.num_commits
        ):
            newest[evaluation.site] = evaluation
    rows = [
        {
            "task": score.task,
            "language": _code(score.language),
            "metric": score.metric,
            "version": score.task_version,
            "site": Link(text=site, href=f"/site/{site}"),
            "score": score.score,
            "low": score.low,
            "high": score.high,
            "items": score.num_items,
            "commits": evaluation.num_commits,
        }
        for site, evaluation in newest.items()
        for score in evaluation.scores
    ]
    rows.sort(key=lambda row: (str(row["task"]), sort_key(str(row["language"]).partition(" ")[0]), str(row["metric"])))
    return Table(
        id="tasks",
        title="Benchmark tasks",
        columns=(
            Column(key="task", title="Task"),
            Column(key="language", title="Language"),
            Column(key="metric", title="Metric"),
            Column(key="version", title="Version", hint="Scores of two versions are never compared"),
            Column(key="site", title="Site"),
            Column(key="score", title="Score", kind=Kind.NUMBER, digits=4),
            Column(key="low", title="From", kind=Kind.NUMBER, digits=4, hint="Lower end of the interval of 95 %"),
            Column(key="high", title="To", kind=Kind.NUMBER, digits=4, hint="Upper end of the interval of 95 %"),
            Column(key="items", title="Items", kind=Kind.COUNT),
            Column(key="commits", title="At commit", kind=Kind.COUNT),
        ),
        rows=tuple(rows),
        note="From, to: the 95 % interval that the site computed.",
        empty="No site has scored a benchmark task of this run.",
    )
