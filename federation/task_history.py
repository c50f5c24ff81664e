# SPDX-License-Identifier: Apache-2.0
"""Which task evaluations of a run are kept: of each site those of the newest models, so that state stays bounded. Pure.

The ledger keeps all of them. A site causes one leaf for each (request, model) at most: what was dropped here is of an
older model than all that is kept, and such a one is not recorded again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from federation.leaves import TasksEvaluatedV1
from federation.ledger_state import Run

KEPT_PER_SITE: Final = 32
"""Task evaluations of one site that the state of a run holds."""


def is_news(run: Run, site: str, request: int, num_commits: int, versions: tuple[int, ...]) -> bool:
    """Whether a site may have this task evaluation recorded: not recorded yet, and not older than what is kept."""
    mine = _of(run, site)
    if any((e.request, e.num_commits, e.versions) == (request, num_commits, versions) for e in mine):
        return False
    return len(mine) < KEPT_PER_SITE or num_commits > min(e.num_commits for e in mine)


def with_newest(run: Run, body: TasksEvaluatedV1) -> Run:
    """The run with one more; the site's oldest model makes room for it."""
    mine, kept = _of(run, body.site), run.task_evaluations
    if len(mine) >= KEPT_PER_SITE:
        oldest = min(mine, key=lambda e: e.num_commits)
        kept = tuple(e for e in kept if e is not oldest)
    return replace(run, task_evaluations=(*kept, body))


def without_void(run: Run) -> Run:
    """The run without those of models that a rollback has made void."""
    return replace(run, task_evaluations=tuple(run.of_models_in_force(run.task_evaluations)))


def _of(run: Run, site: str) -> Sequence[TasksEvaluatedV1]:
    return [e for e in run.task_evaluations if e.site == site]
