# SPDX-License-Identifier: Apache-2.0
"""Where sites that scored the very same model disagree, in sentences. Pure: a projection, nobody decides by it.

Tasks: two intervals of 95% that do not overlap, for the same task, language, version and metric. Bits per byte have no
interval: they are compared where both sites scored equally many bytes, and differ by more than `BITS_PER_BYTE_BOUND`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final, TypeAlias

from federation.durations import count
from federation.leaves import EvaluationRecordedV1, LanguageScore, TaskScore, TasksEvaluatedV1
from federation.ledger_state import Run

BITS_PER_BYTE_BOUND: Final = 0.1
"""Of the smaller of two scores. Sites hold out texts of their own: what differs by less need not be anybody's fault."""

NEWEST_MODELS: Final = 50
MAX_FINDINGS: Final = 100

Evaluation: TypeAlias = EvaluationRecordedV1 | TasksEvaluatedV1
Model: TypeAlias = tuple[int, tuple[int, ...]]
Subject: TypeAlias = tuple[str, ...]


def disagreements(run: Run) -> tuple[str, ...]:
    """One sentence for each pair of sites that disagree about one of the `NEWEST_MODELS` in force, the newest first."""
    by_model: dict[Model, list[Evaluation]] = defaultdict(list)
    everything: list[Evaluation] = [*run.evaluations, *run.task_evaluations]
    for evaluation in run.of_models_in_force(everything):
        by_model[evaluation.num_commits, evaluation.versions].append(evaluation)
    found: list[str] = []
    for model in sorted(by_model, reverse=True)[:NEWEST_MODELS]:
        found += (*_of_tasks(model, by_model[model]), *_of_bits_per_byte(model, by_model[model]))
    return tuple(found[:MAX_FINDINGS])


def _of_tasks(model: Model, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    by_subject: dict[Subject, dict[str, TaskScore]] = defaultdict(dict)
    for evaluation in evaluations:  # a later one of a site takes the place of its earlier ones
        for score in evaluation.scores if isinstance(evaluation, TasksEvaluatedV1) else ():
            by_subject[score.task, score.language, score.task_version, score.metric][evaluation.site] = score
    for subject, by_site in sorted(by_subject.items()):
        if max(s.low for s in by_site.values()) <= min(s.high for s in by_site.values()):
            continue  # a point is in all of them
        for one, other in _pairs(by_site):
            a, b = by_site[one], by_site[other]
            if a.high < b.low or b.high < a.low:
                yield f"{_head(model)}: {_words(subject)}: {one} {_interval(a)}, {other} {_interval(b)}"


def _of_bits_per_byte(model: Model, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    newest: dict[tuple[str, str], LanguageScore] = {}
    for evaluation in evaluations:
        for score in evaluation.scores if isinstance(evaluation, EvaluationRecordedV1) else ():
            newest[score.language, evaluation.site] = score
    comparable: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for (language, site), score in newest.items():
        comparable[language, score.num_bytes][site] = score.bits_per_byte
    for (language, num_bytes), by_site in sorted(comparable.items()):
        if not _differ(*by_site.values()):
            continue
        for one, other in _pairs(by_site):
            if _differ(by_site[one], by_site[other]):
                yield (
                    f"{_head(model)}: {language}, bits per byte on {count(num_bytes, 'byte')}: "
                    f"{one} {by_site[one]:.4f}, {other} {by_site[other]:.4f}; their texts may differ"
                )


def _differ(*bits_per_byte: float) -> bool:
    low, high = min(bits_per_byte), max(bits_per_byte)
    return high - low > BITS_PER_BYTE_BOUND * low


def _pairs(by_site: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    return combinations(sorted(by_site), 2)


def _head(model: Model) -> str:
    return f"model of {count(model[0], 'commit')}"


def _words(subject: Sequence[str]) -> str:
    task, language, version, metric = subject
    return f"{task} {language} version {version}, {metric}"


def _interval(score: TaskScore) -> str:
    return f"{score.score:.3f} ({score.low:.3f} to {score.high:.3f}, n = {score.num_items})"
