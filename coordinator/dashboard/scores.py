# SPDX-License-Identifier: Apache-2.0
"""Bits per byte per language and model, over the sites that evaluated it; kept as evaluations come."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

from federation import leaves as lv
from federation.ledger_state import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One language of one model: mean over the sites, and their spread."""

    mean: float
    low: float
    high: float
    num_sites: int


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of one run, by commits in the model, oldest first, then by language code as the sites name it."""

    by_commits: Mapping[int, Mapping[str, Score]] = field(default_factory=dict)

    @property
    def commits(self) -> list[int]:
        """Models that were evaluated, oldest first."""
        return list(self.by_commits)

    @property
    def settled(self) -> list[int]:
        """Models whose scores can be compared as a whole: all but the newest, while it has less than the one before.

        Sites score a model one after the other. A site that has left keeps back the newest model, until the next one.
        """
        commits = self.commits
        if len(commits) < 2:
            return commits
        newest, before = self.by_commits[commits[-1]], self.by_commits[commits[-2]]
        has_all = all(code in newest and newest[code].num_sites >= score.num_sites for code, score in before.items())
        return commits if has_all else commits[:-1]

    @property
    def languages(self) -> set[str]:
        """All languages that were ever scored."""
        return {language for scores in self.by_commits.values() for language in scores}

    def of(self, commits: int, language: str) -> Score | None:
        """One score, None where it was not measured."""
        return self.by_commits.get(commits, {}).get(language)

    def newest(self, language: str, back: int = 0) -> tuple[int, Score] | None:
        """The newest score of a language (`back` = 1: the one before), with its model."""
        for commits in reversed(self.commits):
            score = self.of(commits, language)
            if score is not None and back == 0:
                return commits, score
            back -= score is not None
        return None

    def first(self, language: str) -> tuple[int, Score] | None:
        """The oldest score of a language."""
        found = ((commits, s) for commits in self.by_commits if (s := self.of(commits, language)) is not None)
        return next(found, None)


@dataclass(kw_only=True)
class _Model:
    """What the sites said of one model: by language and site; and the scores, None while they are not computed."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    scores: Mapping[str, Score] | None = None


Versions = tuple[int, ...]


@dataclass(kw_only=True)
class ScoreBook:
    """All evaluations, by run, and by commits and versions of the model. Of a site's words on one the newest counts."""

    runs: dict[str, dict[tuple[int, Versions], _Model]] = field(default_factory=dict)

    def add(self, evaluation: lv.EvaluationRecordedV1) -> None:
        """Takes in an evaluation; a score that is no number says nothing."""
        models = self.runs.setdefault(evaluation.run, {})
        model = models.setdefault((evaluation.num_commits, evaluation.versions), _Model())
        model.scores = None
        for score in evaluation.scores:
            if isfinite(score.bits_per_byte):
                model.values.setdefault(score.language, {})[evaluation.site] = score.bits_per_byte

    def of(self, run: Run) -> Scores:
        """The scores of models that are in force: what was rolled back does not count."""
        models, newest = self.runs.get(run.id, {}), run.num_commits()
        in_force = sorted(key for key in models if key[0] <= newest and not run.is_void(key[1]))
        return Scores(by_commits={key[0]: _scores(models[key]) for key in in_force})


def macro_average(scores: Mapping[str, Score], languages: Iterable[str]) -> float | None:
    """The mean over exactly these languages; None if one of them has no score: another set is another figure."""
    wanted = list(languages)
    if not wanted or any(language not in scores for language in wanted):
        return None
    return sum(scores[language].mean for language in wanted) / len(wanted)


def _scores(model: _Model) -> Mapping[str, Score]:
    if model.scores is None:
        model.scores = {language: _score(sites.values()) for language, sites in model.values.items()}
    return model.scores


def _score(values: Iterable[float]) -> Score:
    found = list(values)
    return Score(mean=sum(found) / len(found), low=min(found), high=max(found), num_sites=len(found))
