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
from federation.leaves import LanguageScore, TaskScore
from federation.ledger_state import Run

BITS_PER_BYTE_BOUND: Final = 0.1
"""Of the smaller of two scores. Sites hold out texts of their own: what differs by less need not be anybody's fault."""

MAX_FINDINGS: Final = 100
"""The newest models' first."""

Model: TypeAlias = tuple[int, tuple[int, ...]]
Subject: TypeAlias = tuple[str, ...]


def disagreements(run: Run) -> tuple[str, ...]:
    """One sentence for each pair of sites that disagree, the newest models first; at most `MAX_FINDINGS`."""
    found: list[str] = []
    for model in sorted({_model(e) for e in (*run.evaluations, *run.task_evaluations)}, reverse=True):
        found += (*_of_tasks(run, model), *_of_bits_per_byte(run, model))
        if len(found) >= MAX_FINDINGS:
            break
    return tuple(found[:MAX_FINDINGS])


def _model(evaluation: object) -> Model:
    return getattr(evaluation, "num_commits", 0), getattr(evaluation, "versions", ())


def _of_tasks(run: Run, model: Model) -> Iterator[str]:
    by_subject: dict[Subject, dict[str, TaskScore]] = defaultdict(dict)
    for evaluation in run.task_evaluations:  # a later one of a site takes the place of its earlier ones
        for score in evaluation.scores if _model(evaluation) == model else ():
            by_subject[score.task, score.language, score.task_version, score.metric][evaluation.site] = score
    for subject, by_site in sorted(by_subject.items()):
        for one, other in _pairs(by_site):
            a, b = by_site[one], by_site[other]
            if a.high < b.low or b.high < a.low:
                yield f"{_head(model)}: {_words(subject)}: {one} {_interval(a)}, {other} {_interval(b)}"


def _of_bits_per_byte(run: Run, model: Model) -> Iterator[str]:
    by_language: dict[str, dict[str, LanguageScore]] = defaultdict(dict)
    for evaluation in run.evaluations:
        for score in evaluation.scores if _model(evaluation) == model else ():
            by_language[score.language][evaluation.site] = score
    for language, by_site in sorted(by_language.items()):
        for one, other in _pairs(by_site):
            a, b = by_site[one], by_site[other]
            low, high = sorted((a.bits_per_byte, b.bits_per_byte))
            if a.num_bytes == b.num_bytes and high - low > BITS_PER_BYTE_BOUND * low:
                yield (
                    f"{_head(model)}: {language}, bits per byte on {count(a.num_bytes, 'byte')}: "
                    f"{one} {a.bits_per_byte:.4f}, {other} {b.bits_per_byte:.4f}; their texts may differ"
                )


def _pairs(by_site: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    return combinations(sorted(by_site), 2)


def _head(model: Model) -> str:
    return f"model of {count(model[0], 'commit')}"


def _words(subject: Sequence[str]) -> str:
    task, language, version, metric = subject
    return f"{task} {language} version {version}, {metric}"


def _interval(score: TaskScore) -> str:
    return f"{score.score:.3f} ({score.low:.3f} to {score.high:.3f}, n = {score.num_items})"
