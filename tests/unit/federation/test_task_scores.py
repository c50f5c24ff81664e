# SPDX-License-Identifier: Apache-2.0
"""Scores of benchmark tasks: which are plausible, and their intervals."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.task_scores import MAX_TASK_SCORES, TaskScore, around, problem_of, wilson

SCORE = TaskScore(
    task="belebele",
    language="deu_Latn",
    task_version="1.0+5shot",
    metric="acc_norm",
    num_items=900,
    score=0.5,
    low=0.4,
    high=0.6,
)


def test_good_scores_have_no_problem() -> None:
    assert problem_of((SCORE, replace(SCORE, metric="acc"), replace(SCORE, low=0.5, high=0.5, task_version="2"))) == ""
    many = tuple(replace(SCORE, task=f"t{n}") for n in range(MAX_TASK_SCORES))
    assert problem_of(many) == ""
    assert problem_of((*many, SCORE)) == "expected 1 to 1000 scores, found 1001"


@pytest.mark.parametrize(
    ("scores", "problem"),
    [
        ((), "expected 1 to 1000 scores, found 0"),
        ((SCORE, SCORE), "expected each metric of a task and language once, found one twice"),
        ((replace(SCORE, score=float("nan")),), "score 1: expected finite numbers, found others"),
        ((replace(SCORE, high=float("inf")),), "score 1: expected finite numbers, found others"),
        ((SCORE, replace(SCORE, low=0.7)), "score 2: expected low <= score <= high, found 0.7, 0.5, 0.6"),
        ((replace(SCORE, high=0.45),), "score 1: expected low <= score <= high, found 0.4, 0.5, 0.45"),
        ((replace(SCORE, num_items=-1),), "score 1: expected 1 to 2^53 items, found -1"),
        ((replace(SCORE, num_items=0),), "score 1: expected 1 to 2^53 items, found 0"),
        ((replace(SCORE, num_items=2**53),), "score 1: expected 1 to 2^53 items, found 9007199254740992"),
        ((replace(SCORE, language="klingon"),), "score 1: expected language of its form, found something else"),
        ((replace(SCORE, task="Secret line\n"),), "score 1: expected task of its form, found something else"),
        ((replace(SCORE, task="x" * 10_000_000),), "score 1: expected task of its form, found something else"),
        ((replace(SCORE, task_version=""),), "score 1: expected task_version of its form, found something else"),
        ((replace(SCORE, metric="acc,none"),), "score 1: expected metric of its form, found something else"),
        ((replace(SCORE, language="de\n"),), "score 1: expected language of its form, found something else"),
    ],
)
def test_what_no_leaf_may_hold_has_a_reason_that_quotes_no_text(scores: tuple[TaskScore, ...], problem: str) -> None:
    assert problem_of(scores) == problem


def test_wilsons_interval_is_the_published_one() -> None:
    # R, binom::binom.confint(x, n, methods="wilson")
    for (right, items), expected in {
        (0, 10): (0.0, 0.2775),
        (5, 10): (0.2366, 0.7634),
        (81, 263): (0.2553, 0.3662),
    }.items():
        assert wilson(right, items) == pytest.approx(expected, abs=5e-5)


@given(st.integers(1, 10**9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_score_and_stays_a_proportion(counts: tuple[int, int]) -> None:
    right, items = counts
    low, high = wilson(right, items)
    assert 0.0 <= low <= right / items <= high <= 1.0
    assert low < high


def test_the_interval_of_a_mean_is_1_96_standard_errors_wide_on_each_side() -> None:
    assert around(10.0, 1.0) == pytest.approx((8.04, 11.96), abs=1e-3)
    assert around(10.0, 0.0) == (10.0, 10.0)
