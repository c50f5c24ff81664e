# SPDX-License-Identifier: Apache-2.0
"""Sites that scored the same model and disagree are found, and nobody else."""

import time
from dataclasses import replace

from coordinator.disagreement import MAX_FINDINGS, disagreements
from federation import leaves as lv
from federation.ledger_state import Run
from federation.task_scores import wilson
from federation.testing.manifests import plan_of

PLAN = plan_of({"a": 4, "b": 4, "c": 4}, theta_digests=("0" * 64,))


def score(num_right: int, **changes: object) -> lv.TaskScore:
    low, high = wilson(num_right, 100)
    made = lv.TaskScore(
        task="quiz",
        language="de",
        task_version="1",
        metric="acc",
        num_items=100,
        score=num_right / 100,
        low=low,
        high=high,
    )
    return replace(made, **changes)


def tasks(site: str, *scores: lv.TaskScore, commits: int = 3, versions: tuple[int, ...] = (3,)) -> lv.TasksEvaluatedV1:
    return lv.TasksEvaluatedV1(
        run="r", site=site, request=0, num_commits=commits, versions=versions, scores=scores, evidence_digest=""
    )


def bits(
    site: str, bits_per_byte: float, num_bytes: int = 1000, versions: tuple[int, ...] = (3,)
) -> lv.EvaluationRecordedV1:
    scores = (lv.LanguageScore(language="fi", bits_per_byte=bits_per_byte, num_bytes=num_bytes),)
    return lv.EvaluationRecordedV1(
        run="r", site=site, request=0, num_commits=3, versions=versions, scores=scores, evidence_digest=""
    )


def run(*found: lv.TasksEvaluatedV1 | lv.EvaluationRecordedV1) -> Run:
    return Run(
        id="r",
        manifest_digest="",
        plan=PLAN,
        created_leaf=0,
        evaluations=tuple(e for e in found if isinstance(e, lv.EvaluationRecordedV1)),
        task_evaluations=tuple(e for e in found if isinstance(e, lv.TasksEvaluatedV1)),
    )


def test_intervals_that_do_not_overlap_are_told_pair_by_pair() -> None:
    found = disagreements(run(tasks("a", score(40)), tasks("b", score(90)), tasks("c", score(45))))
    assert found == (
        "model of 3 commits: quiz de version 1, acc: a 0.400 (0.309 to 0.498, n = 100), "
        "b 0.900 (0.826 to 0.945, n = 100)",
        "model of 3 commits: quiz de version 1, acc: b 0.900 (0.826 to 0.945, n = 100), "
        "c 0.450 (0.356 to 0.548, n = 100)",
    )


def test_only_the_very_same_is_compared() -> None:
    low = score(40)
    for other in (
        tasks("b", score(90, task_version="2")),
        tasks("b", score(90, task="other")),
        tasks("b", score(90, language="fi")),
        tasks("b", score(90, metric="acc_norm")),
        tasks("b", score(90), versions=(4,)),
        tasks("b", score(90), commits=4),
        tasks("a", score(90)),
    ):
        assert disagreements(run(tasks("a", low), other)) == ()


def test_of_a_site_that_scored_a_model_twice_the_later_one_counts() -> None:
    assert disagreements(run(tasks("a", score(90)), tasks("b", score(42)), tasks("a", score(40)))) == ()


def test_bits_per_byte_are_compared_on_equally_many_bytes() -> None:
    (found,) = disagreements(run(bits("a", 2.0), bits("b", 2.3)))
    assert found == "model of 3 commits: fi, bits per byte on 1000 bytes: a 2.0000, b 2.3000; their texts may differ"
    assert disagreements(run(bits("a", 2.0), bits("b", 2.19))) == ()
    assert disagreements(run(bits("a", 2.0), bits("b", 9.0, num_bytes=1001))) == ()
    assert disagreements(run(bits("a", 2.0), bits("b", 9.0, versions=(4,)))) == ()


def test_the_newest_models_come_first_and_there_is_an_end() -> None:
    many = [
        tasks(site, *(score(right, task=f"t{n}") for n in range(60)), commits=commits, versions=(commits,))
        for commits in (1, 2, 3)
        for site, right in (("a", 10), ("b", 90))
    ]
    found = disagreements(run(*many))
    assert len(found) == MAX_FINDINGS
    assert [sum(line.startswith(f"model of {n} commits") for line in found) for n in (3, 2)] == [60, 40]


def test_a_thousand_rounds_of_twenty_sites_are_looked_at_quickly() -> None:
    languages = [f"{a}{b}" for a in "abcdef" for b in "abcdef"]
    scores = tuple(lv.LanguageScore(language=code, bits_per_byte=2.0, num_bytes=100) for code in languages)
    many = [
        replace(bits(f"s{n}", 2.0, versions=(m,)), num_commits=m, scores=scores) for m in range(1000) for n in range(20)
    ]
    began = time.process_time()
    assert disagreements(run(*many)) == ()
    assert time.process_time() - began < 2.0
