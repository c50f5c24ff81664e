# SPDX-License-Identifier: Apache-2.0
"""Parts of a run's document that say how long still, what holds it up, and since when."""

import json
from dataclasses import replace

import pytest
from decider_world import World

from coordinator.run_details import pace_document, round_details, site_details, witnesses_document
from coordinator.timeline import RoundTimes, RunTimes
from coordinator.views import MAX_EVALUATIONS, as_json, newest_evaluations
from federation.leaves import EvaluationRecordedV1
from federation.messages import CommandKind, Phase

SECOND = 1_000_000


def times_with_commits(*seconds: int) -> RunTimes:
    times = RunTimes("demo")
    times.commits_at_us.extend(at * SECOND for at in seconds)
    return times


def test_a_running_run_has_a_forecast_and_a_paused_one_has_none() -> None:
    world = World(num_rounds=10)
    times = times_with_commits(10, 20, 30)
    found = pace_document(world.run, times)
    assert found["forecast"] == {"seconds_per_commit": 10.0, "num_commits": 3, "ends_at_us": 130 * SECOND}
    assert found["state_since_us"] == 1000 * SECOND
    world.command(CommandKind.RUN_PAUSE)
    assert pace_document(world.run, times)["forecast"] is None
    assert pace_document(world.run, times)["commits_at_us"] == [10 * SECOND, 20 * SECOND, 30 * SECOND]


def test_a_site_in_a_round_knows_how_many_steps_its_window_has() -> None:
    world = World()
    world.ready()
    world.tick()
    world.report("alpha", 0, Phase.TRAINING)
    found = site_details(world.run, "alpha", world.seen.sites["alpha"], RunTimes("demo"))
    assert (found["num_steps"], found["allocation_id"], found["seconds_left"]) == (4, "a1", -1)
    (part,) = found["participations"]
    assert (part["round"], part["phase"], part["num_steps"]) == (0, "training", 4)
    details = round_details(world.run.rounds[0], RoundTimes())
    assert details["num_steps"] == {"alpha": 4, "beta": 4, "gamma": 4}


def test_a_round_that_the_ledger_does_not_know_has_no_steps() -> None:
    world = World()
    world.report("alpha", 77, Phase.TRAINING)
    assert site_details(world.run, "alpha", world.seen.sites["alpha"], RunTimes("demo"))["num_steps"] is None
    assert site_details(world.run, "beta", None, RunTimes("demo"))["participations"] == []


def test_whose_cosignature_is_missing() -> None:
    run = World().run
    assert witnesses_document(run, {})["missing"] == ["alpha", "beta", "gamma"]
    found = witnesses_document(run, {"alpha": 10**6, "beta": 10**6})
    assert (found["quorum"], found["missing"], found["cosigned_by"]) == (2, [], ["alpha", "beta"])
    assert witnesses_document(replace(run, approved_leaf=-1), {})["leaf"] is None


def test_a_document_holds_the_first_and_the_newest_evaluations() -> None:
    def evaluated(commits: int) -> EvaluationRecordedV1:
        return EvaluationRecordedV1(
            run="demo", site="alpha", request=0, num_commits=commits, versions=(0,), scores=(), evidence_digest=""
        )

    few = tuple(evaluated(commits) for commits in range(3))
    assert newest_evaluations(replace(World().run, evaluations=few)) == list(few)
    many = tuple(evaluated(commits) for commits in range(2 * MAX_EVALUATIONS))
    found = newest_evaluations(replace(World().run, evaluations=many))
    assert [e.num_commits for e in found] == [0, *range(MAX_EVALUATIONS, 2 * MAX_EVALUATIONS)]


def test_a_number_that_is_none_is_null_in_a_document() -> None:
    """A site may report any 64 bits as its time of a step; JSON has neither NaN nor infinity."""
    document = {"sites_now": {"a": {"seconds_per_step": float("nan"), "step": 3}}, "list": [1.5, float("-inf")]}
    found = json.loads(as_json(document), parse_constant=pytest.fail)
    assert found == {"sites_now": {"a": {"seconds_per_step": None, "step": 3}}, "list": [1.5, None]}
    assert as_json({"a": 1.5}) == '{"a": 1.5}'
