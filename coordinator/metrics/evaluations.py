# SPDX-License-Identifier: Apache-2.0
"""Scores of languages, each beside its predecessor, as metrics. Pure."""

from collections.abc import Iterator

from coordinator.metrics import catalogue as metric
from federation.exposition import Sample
from federation.leaves import EvaluationRecordedV1
from federation.rounds import Run


def evaluation_samples(run: Run) -> Iterator[Sample]:
    """One run: of each site the newest scores of a model that is in force, and those of the model before it."""
    for site, (newest, before) in sorted(_newest_two(run).items()):
        yield metric.SCORED_COMMITS.of(newest.num_commits, run.id, site)
        sizes = {score.language: score.num_bytes for score in newest.scores}
        for score in newest.scores:
            yield metric.SCORE.of(score.bits_per_byte, run.id, site, score.language)
        for score in before.scores if before is not None else ():
            if sizes.get(score.language) == score.num_bytes:  # another text gives another figure
                yield metric.SCORE_BEFORE.of(score.bits_per_byte, run.id, site, score.language)


def _newest_two(run: Run) -> dict[str, tuple[EvaluationRecordedV1, EvaluationRecordedV1 | None]]:
    """From the end, as far as needed: a long run has tens of thousands."""
    complete, found = set[str](), dict[str, tuple[EvaluationRecordedV1, EvaluationRecordedV1 | None]]()
    for each in reversed(run.evaluations):
        if each.site in complete or run.is_void(each.versions):
            continue
        if each.site not in found:
            found[each.site] = (each, None)
        elif each.num_commits < found[each.site][0].num_commits:
            found[each.site] = (found[each.site][0], each)
            complete.add(each.site)
            if len(complete) == len(run.plan.members):
                break
    return found
