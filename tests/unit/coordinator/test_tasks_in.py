# SPDX-License-Identifier: Apache-2.0
"""Scores of benchmark tasks become one leaf each, and what is no such thing none."""

from dataclasses import replace

import pytest
from decider_world import World, kinds

from coordinator.inputs import TasksReceived
from coordinator.tasks_in import why_not
from federation.leaves import TaskScore
from federation.messages import CommandKind, TaskEvaluation

SCORE = TaskScore(task="quiz", language="de", task_version="1", metric="acc", num_items=9, score=0.5, low=0.2, high=0.8)
SCORED = TaskEvaluation(run="demo", site="alpha", request=0, num_commits=0, versions=(0,), scores=(SCORE,))


def put(world: World, evaluation: TaskEvaluation) -> list[str]:
    return kinds(world.put(TasksReceived(evaluation=evaluation, evidence_digest="e" * 64)))


def test_good_scores_are_recorded_once() -> None:
    world = World()
    assert put(world, SCORED) == ["TasksEvaluatedV1"]
    assert put(world, SCORED) == []
    assert put(world, replace(SCORED, site="beta")) == ["TasksEvaluatedV1"]
    assert [e.scores for e in world.run.task_evaluations] == [(SCORE,), (SCORE,)]


def test_an_operators_request_is_answered_with_its_versions() -> None:
    world = World()
    assert put(world, replace(SCORED, request=1)) == []
    world.command(CommandKind.RUN_EVALUATE)
    assert put(world, replace(SCORED, request=1)) == ["TasksEvaluatedV1"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": "other"}, "expected one of a run that has this site as a member"),
        ({"site": "delta"}, "expected one of a run that has this site as a member"),
        ({"num_commits": 1}, "expected a model of the ledger, found other versions after 1 commits"),
        ({"versions": (1,)}, "expected a model of the ledger"),
        ({"scores": ()}, "expected 1 to 1000 scores, found 0"),
        ({"scores": (replace(SCORE, score=float("nan")),)}, "score 1: expected finite numbers"),
        ({"scores": (replace(SCORE, low=0.9),)}, "score 1: expected low <= score <= high"),
        ({"scores": (replace(SCORE, num_items=0),)}, "score 1: expected 1 to 2^53 items, found 0"),
        ({"scores": (replace(SCORE, language="nobody's"),)}, "score 1: expected language of its form"),
        ({"scores": (replace(SCORE, task="x" * 10_000_000),)}, "score 1: expected task of its form"),
    ],
)
def test_anything_else_leaves_nothing_and_has_a_reason(changes: dict[str, object], reason: str) -> None:
    world, bad = World(), replace(SCORED, **changes)
    assert put(world, bad) == []
    found = why_not(world.state, bad)
    assert found.startswith("task evaluation: ")
    assert reason in found


def test_a_revoked_site_is_not_heard() -> None:
    world = World()
    world.command(CommandKind.SITE_REVOKE, subject="alpha")
    assert put(world, SCORED) == []
    assert why_not(world.state, SCORED) == "task evaluation: expected one of a site that is not revoked"
