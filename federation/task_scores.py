# SPDX-License-Identifier: Apache-2.0
"""Scores of benchmark tasks: what one is, which are plausible, and their 95% intervals. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Final

MAX_TASK_SCORES: Final = 1000
"""Of one evaluation: every metric of every task and language counts."""

MAX_ITEMS: Final = 2**53
TASK_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,63}"
VERSION_PATTERN: Final = r"[0-9A-Za-z][0-9A-Za-z.+-]{0,19}"
METRIC_PATTERN: Final = r"[a-z0-9][a-z0-9_.-]{0,59}"
LANGUAGE_PATTERN: Final = r"[a-z]{2,3}(_[A-Z][a-z]{3})?"

_Z: Final = 1.959963984540054  # 97.5% quantile of the standard normal distribution
_FORMS: Final = (
    ("task", re.compile(TASK_PATTERN, re.ASCII)),
    ("language", re.compile(LANGUAGE_PATTERN, re.ASCII)),
    ("task_version", re.compile(VERSION_PATTERN, re.ASCII)),
    ("metric", re.compile(METRIC_PATTERN, re.ASCII)),
)


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One metric of one task in one language.

    Attributes:
        task: its name, alike at all sites that run it.
        language: a code such as de, deu or deu_Latn.
        task_version: of the task's items and prompts; scores of two versions are never compared.
        metric: such as acc or acc_norm.
        num_items: that were scored, at least 1.
        low, high: 95% interval that holds the score.
    """

    task: str
    language: str
    task_version: str
    metric: str
    num_items: int
    score: float
    low: float
    high: float


def problem_of(scores: Sequence[TaskScore]) -> str:
    """Why these are no scores of one evaluation, "" if they are. Says which place, never what was found there."""
    if not 0 < len(scores) <= MAX_TASK_SCORES:
        return f"expected 1 to {MAX_TASK_SCORES} scores, found {len(scores)}"
    for number, score in enumerate(scores, start=1):
        for name, form in _FORMS:
            if form.fullmatch(getattr(score, name)) is None:
                return f"score {number}: expected {name} of its form, found something else"
        if not 0 < score.num_items < MAX_ITEMS:
            return f"score {number}: expected 1 to 2^53 items, found {score.num_items}"
        if not all(map(isfinite, (score.low, score.score, score.high))):
            return f"score {number}: expected finite numbers, found others"
        if not score.low <= score.score <= score.high:
            return f"score {number}: expected low <= score <= high, found {score.low}, {score.score}, {score.high}"
    if len({(s.task, s.language, s.task_version, s.metric) for s in scores}) != len(scores):
        return "expected each metric of a task and language once, found one twice"
    return ""


def wilson(num_right: float, num_items: int) -> tuple[float, float]:
    """95% interval of a proportion: Wilson's score interval (E. B. Wilson, JASA 22, 1927), within 0 and 1.

    Unlike score ± 1.96 standard errors it has a width where all or no items were right, and where they are few.

    Args:
        num_right: need not be whole: proportion times items.
    """
    n, p = num_items, num_right / num_items
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def around(score: float, standard_error: float) -> tuple[float, float]:
    """95% interval of a mean whose standard error is known: 1.96 of them on each side."""
    return score - _Z * standard_error, score + _Z * standard_error
