# SPDX-License-Identifier: Apache-2.0
"""What the run's document says of benchmark tasks."""

from dataclasses import replace

from coordinator.views import NEWEST_TASK_SCORES, newest_tasks
from federation import leaves as lv
from federation.ledger_state import Run
from federation.testing.manifests import plan_of

SCORE = lv.TaskScore(
    task="quiz", language="de", task_version="1", metric="acc", num_items=4, score=0.5, low=0.1, high=0.9
)


def run(*num_scores: int) -> Run:
    found = tuple(
        lv.TasksEvaluatedV1(
            run="r",
            site="a",
            request=0,
            num_commits=commits,
            versions=(commits,),
            scores=tuple(replace(SCORE, task=f"t{n}") for n in range(number)),
            evidence_digest="",
        )
        for commits, number in enumerate(num_scores)
    )
    return Run(
        id="r",
        manifest_digest="",
        plan=plan_of({"a": 4}, theta_digests=("0" * 64,)),
        created_leaf=0,
        task_evaluations=found,
    )


def test_scores_are_told_field_by_field() -> None:
    (document,) = newest_tasks(run(1))
    assert (document["site"], document["commits"], document["versions"]) == ("a", 0, [0])
    assert document["scores"] == [
        {
            "task": "t0",
            "language": "de",
            "task_version": "1",
            "metric": "acc",
            "num_items": 4,
            "score": 0.5,
            "low": 0.1,
            "high": 0.9,
        }
    ]


def test_a_reply_holds_the_newest_and_ends() -> None:
    assert [d["commits"] for d in newest_tasks(run(1000, 1000, 1000))] == [0, 1, 2]
    many = newest_tasks(run(*[1000] * 9))
    assert [d["commits"] for d in many] == [4, 5, 6, 7, 8]
    assert sum(len(d["scores"]) for d in many) == NEWEST_TASK_SCORES
