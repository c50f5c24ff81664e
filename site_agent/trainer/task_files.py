# SPDX-License-Identifier: Apache-2.0
"""Multiple-choice tasks scored with the reference trainer's model of bytes, one batch at a time.

As lm-evaluation-harness does it: each choice's log-likelihood after its context; the highest one is the model's answer
(`acc`), and the highest one per character of the choice, a blank in front of it not counted (`acc_norm`).
Log-likelihoods are summed in fp64; what is equal goes to the first choice. A context too long for the model loses its
beginning.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from federation.errors import FederationError
from federation.leaves import TaskScore
from federation.manifest import Manifest
from federation.task_scores import wilson
from site_agent.data_sets import DataFormat
from site_agent.inner_loop.seam import Float32Array, ScoredTasks, TaskProgress
from site_agent.jobs import EvaluationOrder, WorkOrder
from site_agent.task_orders import Task
from site_agent.trainer.data import BEGIN_OF_TEXT
from site_agent.trainer.llama import EvaluatedModel
from site_agent.trainer.task_items import Item, Items, TaskFileError, read_items

MAX_BATCH: Final = 16
"""Choices in one batch at most; the run's batch size if that is smaller."""

Parameters = Callable[[], Mapping[str, Float32Array]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One choice of one item as the model reads it.

    Attributes:
        tokens: beginning-of-text mark, context and choice, int64.
        num_scored: of the last tokens, those of the choice.
    """

    tokens: np.ndarray[tuple[int], np.dtype[np.int64]]
    num_scored: int


class FileScorer:
    """Scores the tasks that the site has as files.

    Args:
        model: shared with the job's other evaluations.
    """

    def __init__(self, manifest: Manifest, order: WorkOrder, model: EvaluatedModel) -> None:
        self._tasks, self._model = order.evaluation.of_files, model
        self._max_tokens = manifest.model.max_positions
        self._batch_size = min(MAX_BATCH, manifest.trainer.batch_size)
        self._reads_bytes = all(data.format is not DataFormat.MEGATRON for data in order.data_sets)

    def score(self, order: EvaluationOrder, parameters: Parameters) -> Iterator[TaskProgress | ScoredTasks]:
        """One task after the other; one that cannot be scored leaves a sentence."""
        for task in self._tasks:
            try:
                yield from self._score(task, order, parameters)
            except (FederationError, RuntimeError, MemoryError) as error:  # RuntimeError: torch's, out of memory too
                where = "" if isinstance(error, TaskFileError) else f"{task.name} {task.language}: "
                yield ScoredTasks(problems=(f"{where}{error}",))

    def _score(
        self, task: Task, order: EvaluationOrder, parameters: Parameters
    ) -> Iterator[TaskProgress | ScoredTasks]:
        if not self._reads_bytes:
            raise TaskFileError(
                f"{task.name} {task.language}: expected a model of bytes, found one of token ids; "
                "let evaluation.command score it"
            )
        found = read_items(task)
        questions = [self._question(item, choice, task) for item in found.items for choice in item.choices]
        likelihoods: list[float] = []
        for start in range(0, len(questions), self._batch_size):
            model = self._model.filled_for(order, parameters)
            likelihoods += log_likelihoods(model, questions[start : start + self._batch_size])
            yield TaskProgress.WORKED
        yield ScoredTasks(scores=scores_of(task, found, likelihoods))

    def _question(self, item: Item, choice: str, task: Task) -> Question:
        ending = choice.encode()
        tokens = np.frombuffer(item.context + ending, np.uint8).astype(np.int64)
        # The last token is never an input: it is only predicted.
        tokens = np.concatenate([np.array([BEGIN_OF_TEXT], np.int64), tokens])[-(self._max_tokens + 1) :]
        if len(ending) >= len(tokens):
            raise TaskFileError(
                f"{task.name} {task.language}: expected choices of fewer than {self._max_tokens} bytes, the model's "
                f"context, found one of {len(ending)}"
            )
        return Question(tokens=tokens, num_scored=len(ending))


@torch.no_grad()
def log_likelihoods(model: torch.nn.Module, questions: Sequence[Question]) -> list[float]:
    """Sum of ln p over the scored tokens of each question.

    Shorter ones are filled up behind their end, which a causal model does not see.
    """
    device = next(model.parameters()).device
    longest = max(question.tokens.size for question in questions) - 1
    inputs_BL = torch.full((len(questions), longest), BEGIN_OF_TEXT, dtype=torch.int64)
    for row, question in enumerate(questions):
        inputs_BL[row, : question.tokens.size - 1] = torch.from_numpy(question.tokens[:-1])
    was_training = model.training
    model.eval()
    try:
        logits_BLV = model(input_ids=inputs_BL.to(device)).logits
    finally:
        model.train(was_training)
    return [_sum_of(logits_BLV[row], question) for row, question in enumerate(questions)]


def _sum_of(logits_LV: torch.Tensor, question: Question) -> float:
    last = question.tokens.size - 1
    scored_NV = logits_LV[last - question.num_scored : last]
    labels_N = torch.from_numpy(question.tokens[-question.num_scored :]).to(scored_NV.device)
    losses_N = torch.nn.functional.cross_entropy(scored_NV, labels_N, reduction="none")
    return -float(losses_N.double().sum())


def scores_of(task: Task, found: Items, likelihoods: Sequence[float]) -> tuple[TaskScore, ...]:
    """Accuracy, and accuracy by log-likelihood per character, each with Wilson's interval.

    Args:
        likelihoods: of each choice of each item, in order.
    """
    num_right, num_right_by_length, at = 0, 0, 0
    for item in found.items:
        mine = np.array(likelihoods[at : at + len(item.choices)])
        at += len(item.choices)
        lengths = np.array([_length(choice) for choice in item.choices])
        num_right += int(np.argmax(mine)) == item.answer
        num_right_by_length += int(np.argmax(mine / lengths)) == item.answer
    counts = {"acc": num_right, "acc_norm": num_right_by_length}
    return tuple(_score(task, found, metric, count) for metric, count in counts.items())


def _length(choice: str) -> int:
    """Characters, without a blank in front: lm-evaluation-harness counts it to neither context nor choice."""
    return len(choice.removeprefix(" ")) or 1


def _score(task: Task, found: Items, metric: str, num_right: int) -> TaskScore:
    num_items = len(found.items)
    low, high = wilson(num_right, num_items)
    return TaskScore(
        task=task.name,
        language=task.language,
        task_version=found.version,
        metric=metric,
        num_items=num_items,
        score=num_right / num_items,
        low=low,
        high=high,
    )
