# SPDX-License-Identifier: Apache-2.0
"""Bits per byte per language and model, over the sites that evaluated it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

from federation.ledger_state import Run


@dataclass(frozen=True, kw_only=True)
class Score:
    """One language of one model: mean over the sites, and their spread."""

    mean: float
    low: float
    high: float
    num_sites: int


@dataclass(kw_only=True)
class Scores:
    """By commits in the model, then language code as the sites name it."""

    by_commits: dict[int, dict[str, Score]] = field(default_factory=dict)

    @property
    def commits(self) -> list[int]:
        """Models that were evaluated, oldest first."""
        return sorted(self.by_commits)

    @property
    def languages(self) -> set[str]:
        """All languages that were ever scored."""
        return {language for scores in self.by_commits.values() for language in scores}

    def of(self, commits: int, language: str) -> Score | None:
        """One score, None where it was not measured."""
        return self.by_commits.get(commits, {}).get(language)

    def newest(self, language: str, back: int = 0) -> tuple[int, Score] | None:
        """The newest score of a language (`back` = 1: the one before), with its model."""
        found = [(commits, s) for commits in self.commits if (s := self.of(commits, language)) is not None]
        return found[-1 - back] if len(found) > back else None

    def first(self, language: str) -> tuple[int, Score] | None:
        """The oldest score of a language."""
        found = ((commits, s) for commits in self.commits if (s := self.of(commits, language)) is not None)
        return next(found, None)


def scores_of(run: Run) -> Scores:
    """All scores of models that are in force: what was rolled back does not count. The newest word of a site counts."""
    values: dict[int, dict[str, dict[str, float]]] = {}
    for evaluation in run.evaluations:
        if evaluation.num_commits > run.num_commits():
            continue
        languages = values.setdefault(evaluation.num_commits, {})
        for score in evaluation.scores:
            if isfinite(score.bits_per_byte):
                languages.setdefault(score.language, {})[evaluation.site] = score.bits_per_byte
    return Scores(
        by_commits={
            commits: {language: _score(sites.values()) for language, sites in languages.items()}
            for commits, languages in values.items()
        }
    )


def macro_average(scores: Mapping[str, Score], languages: Iterable[str]) -> float | None:
    """The mean over exactly these languages; None if one of them has no score: another set is another figure."""
    wanted = list(languages)
    if not wanted or any(language not in scores for language in wanted):
        return None
    return sum(scores[language].mean for language in wanted) / len(wanted)


def _score(values: Iterable[float]) -> Score:
    found = list(values)
    return Score(mean=sum(found) / len(found), low=min(found), high=max(found), num_sites=len(found))
