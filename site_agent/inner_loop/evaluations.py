# SPDX-License-Identifier: Apache-2.0
"""Ordered evaluations, worked off in short pieces while a job waits for something else."""

from collections.abc import Callable, Iterator

from federation.errors import ProtocolError
from federation.leaves import LanguageScore
from site_agent.inner_loop.global_model import GlobalModel, heads
from site_agent.inner_loop.seam import Evaluator
from site_agent.inner_loop.spool import JobSpool
from site_agent.jobs import EvaluationFile, EvaluationOrder


class EvaluationQueue:
    """Evaluation orders of one allocation, lowest number first.

    Keeps a model of its own, moved from version to version; the one in training is never touched.

    Args:
        make_model: a committed model at version 0; called when the first order comes.
    """

    def __init__(self, spool: JobSpool, evaluator: Evaluator | None, make_model: Callable[[], GlobalModel]) -> None:
        self._spool, self._evaluator, self._make_model = spool, evaluator, make_model
        self._model: GlobalModel | None = None
        self._order: EvaluationOrder | None = None
        self._work: Iterator[tuple[LanguageScore, ...] | None] = iter(())

    def has_work(self) -> bool:
        """Whether an order has no result yet."""
        if self._evaluator is None:
            return False
        return self._order is not None or self._spool.next_evaluation() is not None

    def advance(self) -> bool:
        """Does one short piece of work; returns whether there was any."""
        if self._order is None and not self._begin():
            return False
        scores = next(self._work, ())
        if scores is not None:
            self._finish(scores)
        return True

    def _begin(self) -> bool:
        if self._evaluator is None or (order := self._spool.next_evaluation()) is None:
            return False
        if heads(order.chains) != order.versions:
            raise ProtocolError(
                f"evaluation {order.id}: expected chains that end at versions {order.versions}, "
                f"found {heads(order.chains)}"
            )
        self._model = self._model or self._make_model()
        for fragment, chain in enumerate(order.chains):
            self._model.move_to(fragment, chain)
        self._order, self._work = order, self._evaluator.evaluate(self._model.parameters())
        return True

    def _finish(self, scores: tuple[LanguageScore, ...]) -> None:
        order = self._order
        assert order is not None
        result = EvaluationFile(
            id=order.id,
            request=order.request,
            num_commits=order.num_commits,
            versions=order.versions,
            scores=scores,
        )
        self._spool.write_evaluation(result)
        self._order, self._work = None, iter(())
