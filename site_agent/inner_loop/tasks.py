# SPDX-License-Identifier: Apache-2.0
"""Ordered evaluations of benchmark tasks: worked off in short pieces while a job has nothing better to do.

Whatever goes wrong with one is a sentence in its result and a line in the log, and nothing else: training goes on, and
no model is tried for ever.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from federation.errors import FederationError, ProtocolError
from federation.task_scores import MAX_TASK_SCORES, problem_of
from site_agent.inner_loop.global_model import GlobalModel, heads
from site_agent.inner_loop.seam import Float32Array, ScoredTasks, TaskProgress, TaskScorer
from site_agent.inner_loop.spool import JobSpool
from site_agent.jobs import EvaluationOrder, TaskFile
from site_agent.task_orders import Task

MAX_ATTEMPTS: Final = 3
"""Jobs that may begin the same model's tasks: what ended two of them may end the next one as well."""

_log = logging.getLogger(__name__)


class TaskQueue:
    """Orders of one allocation, lowest number first; one is worked on at a time.

    Args:
        scorers: each scores some of the site's tasks; one after the other.
        make_model: the committed model of the job's evaluations; called when the first order comes.
        seconds_per_pause: of scoring at most between two windows, where the job never waits for anything.
    """

    def __init__(
        self,
        spool: JobSpool,
        scorers: Sequence[TaskScorer] = (),
        make_model: Callable[[], GlobalModel] | None = None,
        seconds_per_pause: float = 0.0,
    ) -> None:
        self._spool, self._scorers, self._make_model = spool, scorers, make_model
        self.seconds_per_pause = seconds_per_pause
        self._is_broken = False
        self._order: EvaluationOrder | None = None
        self._work: Iterator[TaskProgress | ScoredTasks] = iter(())
        self._found: list[ScoredTasks] = []

    @property
    def is_busy(self) -> bool:
        """Whether an order is being worked on."""
        return self._order is not None

    def advance(self) -> bool:
        """Does one short piece of work; returns whether there was any. False while a command of the site's works."""
        if self._order is None and (self._is_broken or not self._begin()):
            return False
        assert self._order is not None
        try:
            item: TaskProgress | ScoredTasks | None = next(self._work, None)
        except Exception as error:  # any: an evaluation must not end a job
            _log.warning(
                "tasks of the model of %d commits: %s: %s", self._order.num_commits, type(error).__name__, error
            )
            item = ScoredTasks(problems=(f"{type(error).__name__}: {error}",))
            self._work = iter(())
        if isinstance(item, ScoredTasks):
            self._found.append(item)
        elif item is None:
            self._finish(self._order)
        return item is not TaskProgress.WAITS

    def close(self) -> None:
        """Leaves what is being worked on, for a successor to begin anew."""
        self._leave()

    def _begin(self) -> bool:
        try:
            if (order := self._spool.next_task_order()) is None:
                return False
            attempt = self._spool.count_task_attempt(order)
        except FederationError as error:
            self._give_up(error)
            return False
        self._order, self._found = order, []
        if attempt > MAX_ATTEMPTS:
            problem = f"begun {attempt - 1} times, and each time the job ended before it was finished"
            self._found.append(ScoredTasks(problems=(problem,)))
        else:
            self._work = self._all_scores(order)
        return True

    def _all_scores(self, order: EvaluationOrder) -> Iterator[TaskProgress | ScoredTasks]:
        parameters = partial(self._parameters, order)
        for scorer in self._scorers:
            yield from scorer.score(order, parameters)

    def _parameters(self, order: EvaluationOrder) -> Mapping[str, Float32Array]:
        """Whole parameters of the ordered model, views; another evaluation may move them on between two pieces."""
        if heads(order.chains) != order.versions:
            raise ProtocolError(f"expected chains that end at versions {order.versions}, found {heads(order.chains)}")
        assert self._make_model is not None
        model = self._make_model()
        for fragment, chain in enumerate(order.chains):
            model.move_to(fragment, chain)
        return model.parameters()

    def _finish(self, order: EvaluationOrder) -> None:
        scores = tuple(score for found in self._found for score in found.scores)
        problems = tuple(problem for found in self._found for problem in found.problems)
        if len(scores) > MAX_TASK_SCORES:
            problems = (*problems, f"{len(scores) - MAX_TASK_SCORES} scores too many are left out")
        scores = scores[:MAX_TASK_SCORES]
        if scores and (problem := problem_of(scores)):
            scores, problems = (), (*problems, problem)
        result = TaskFile(
            id=order.id,
            request=order.request,
            num_commits=order.num_commits,
            versions=order.versions,
            scores=scores,
            problems=tuple(" ".join(problem.split())[:300] for problem in problems),
        )
        try:
            self._spool.write_tasks(result)
        except FederationError as error:
            self._give_up(error)
        self._leave()

    def _give_up(self, error: FederationError) -> None:
        """Orders cannot be read, or results not written: left to a successor."""
        _log.warning("this job scores no more tasks: %s", error)
        self._is_broken = True

    def _leave(self) -> None:
        close = getattr(self._work, "close", None)
        self._order, self._work, self._found = None, iter(()), []
        if close is not None:
            close()


class NobodyScores:
    """In place of a scorer, where a trainer has none: says so of each of these tasks."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks

    def score(
        self, order: EvaluationOrder, parameters: Callable[[], Mapping[str, Float32Array]]
    ) -> Iterator[TaskProgress | ScoredTasks]:
        """No scores."""
        reason = "this trainer scores no files; let evaluation.command do it"
        yield ScoredTasks(problems=tuple(f"{task.name} {task.language}: {reason}" for task in self._tasks))
