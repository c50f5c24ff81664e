# SPDX-License-Identifier: Apache-2.0
"""After a rollback the same number of commits is reached again: scores of the model before it are not the new one's."""

from dataclasses import replace

import pytest

from coordinator.dashboard.history import History
from coordinator.dashboard.scores import ScoreBook
from coordinator.disagreement import disagreements
from coordinator.views import newest_evaluations
from federation import leaves as lv
from federation.ledger_state import Federation, Run
from federation.rounds import apply, fold
from federation.testing.history import digest_of, history

BEFORE, AFTER = (2,), (4,)
"""Versions of the only fragment after two commits, before the history's rollback and after it."""


def scored(site: str, versions: tuple[int, ...], bits_per_byte: float) -> lv.EvaluationRecordedV1:
    scores = (lv.LanguageScore(language="mt", bits_per_byte=bits_per_byte, num_bytes=100),)
    return lv.EvaluationRecordedV1(
        run="demo",
        site=site,
        request=0,
        num_commits=2,
        versions=versions,
        scores=scores,
        evidence_digest=digest_of(site),
    )


@pytest.fixture
def run() -> Run:
    """Of two sites' scores of the model with two commits those of beta and gamma are of the one that is in force."""
    found = fold(history()).runs["demo"]
    bodies = [scored("alpha", BEFORE, 9.0), scored("beta", AFTER, 1.0), scored("gamma", BEFORE, 9.0)]
    bodies.append(scored("gamma", AFTER, 1.2))
    evaluations = type(found.evaluations)()
    for body in bodies:
        evaluations = evaluations.plus(body)
    return replace(found, evaluations=evaluations)


def test_a_model_is_void_once_one_of_its_versions_is(run: Run) -> None:
    assert run.is_void(BEFORE)
    assert not run.is_void(AFTER)
    assert not run.is_void((0,))


def test_the_dashboard_shows_the_scores_of_the_model_in_force_alone(run: Run) -> None:
    book = ScoreBook()
    for evaluation in run.evaluations:
        book.add(evaluation)
    score = book.of(run).of(2, "mt")
    assert score is not None
    assert (score.num_sites, score.low, score.high) == (2, 1.0, 1.2)


def test_a_runs_document_has_the_scores_of_models_in_force_alone(run: Run) -> None:
    assert [(e.site, e.versions) for e in newest_evaluations(run)] == [("beta", AFTER), ("gamma", AFTER)]


def test_nobody_disagrees_on_a_model_that_is_void(run: Run) -> None:
    assert disagreements(run) == (
        "model of 2 commits: mt, bits per byte on 100 bytes: beta 1.0000, gamma 1.2000; their texts may differ",
    )
    void = (scored("alpha", BEFORE, 9.0), scored("beta", BEFORE, 1.0))
    assert disagreements(replace(run, evaluations=void)) == ()


def test_a_rollback_ends_what_the_dashboard_remembers_of_disagreements() -> None:
    kept, state = History(), Federation()
    leaves = history()
    (at,) = (i for i, leaf in enumerate(leaves) if isinstance(leaf.body, lv.RunRevertedV1))
    more = [lv.Leaf(at_us=0, body=scored(site, BEFORE, bits)) for site, bits in (("alpha", 9.0), ("beta", 1.0))]
    for index, leaf in enumerate([*leaves[:at], *more]):
        state = apply(state, leaf)
        kept.leaf(index, leaf, state)
    assert len(kept.disagreements(state.runs["demo"])) == 1
    state = apply(state, leaves[at])
    kept.leaf(at + 2, leaves[at], state)
    assert kept.disagreements(state.runs["demo"]) == ()
