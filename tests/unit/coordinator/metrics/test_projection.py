# SPDX-License-Identifier: Apache-2.0
"""What the ledger and the reports say, as samples: who is silent, what a quorum lacks, which score is the newest."""

from dataclasses import replace
from typing import Any

import pytest
from decider_world import SITES, World
from monitored_world import DAY, committed, evaluated, eventful_world, report, snapshot_of

from coordinator.metrics import Snapshot, expose, render, samples
from coordinator.metrics import catalogue as metric
from federation.exposition import Kind, Metric
from federation.leaves import Member
from federation.messages import CommandKind, ParticipationReport, Phase


def values(snapshot: Snapshot, wanted: Metric) -> dict[tuple[str, ...], float]:
    """A family's values by labels; each combination once."""
    found = [sample for sample in samples(snapshot) if sample.metric is wanted]
    by_labels = {sample.labels: sample.value for sample in found}
    assert len(by_labels) == len(found), f"{wanted.name}: the same labels twice"
    return by_labels


def value(world: World, wanted: Metric, *labels: str, **changes: Any) -> float | None:
    """One value, None where there is none."""
    return values(snapshot_of(world, **changes), wanted).get(labels)


def in_force(world: World, wanted: Metric, *labels: str) -> str:
    """The state whose value is 1."""
    (word,) = [k[-1] for k, v in values(snapshot_of(world), wanted).items() if k[:-1] == labels and v == 1]
    return word


def test_everything_in_the_catalogue_is_exported_and_nothing_else() -> None:
    found = list(samples(snapshot_of(eventful_world())))
    assert {sample.metric.name for sample in found} == {known.name for known in metric.ALL}
    for known in metric.ALL:
        values(snapshot_of(eventful_world()), known)


def test_an_empty_consortium_is_rendered() -> None:
    world = World()
    text = render(snapshot_of(world, coordinator_seen_at=None, roster_expires_at=None, certificates={})).decode()
    assert "federation_ledger_leaves 7.0\n" in text
    assert "federation_site_last_seen" not in text


def test_openmetrics_ends_as_it_must() -> None:
    found = expose(snapshot_of(eventful_world()), "application/openmetrics-text; version=1.0.0")
    assert found.body.endswith(b"# EOF\n")


GOLDEN = """\
# HELP federation_run_commits Commits in force.
# TYPE federation_run_commits gauge
federation_run_commits{run="demo"} 2.0
# HELP federation_run_planned_rounds Rounds that a run is to commit.
# TYPE federation_run_planned_rounds gauge
federation_run_planned_rounds{run="demo"} 5.0
# HELP federation_rounds_total Rounds that ended, by outcome.
# TYPE federation_rounds_total counter
federation_rounds_total{outcome="committed",run="demo"} 2.0
federation_rounds_total{outcome="abandoned",run="demo"} 0.0
"""


def test_the_text_is_what_it_was() -> None:
    assert GOLDEN in render(snapshot_of(eventful_world())).decode()


# --- sites ----------------------------------------------------------------------------------------------------------


def test_a_site_is_silent_after_a_time_that_its_courier_lengthens() -> None:
    world = World()
    world.ready()
    report(world, "beta", participations=(), measured_round_trip_seconds=600)
    world.now += 1000
    assert value(world, metric.AVAILABLE, "demo") == 1, "beta, whose courier takes ten minutes"
    world.now += 2000
    assert value(world, metric.AVAILABLE, "demo") == 0
    assert value(world, metric.MARGIN_SITES, "demo") == -2
    assert value(world, metric.SITE_LAST_SEEN, "beta") == 1000.0


def test_a_manifest_that_allows_for_a_slow_courier_counts_too() -> None:
    members = tuple(
        Member(site=s, num_inner_steps=4, planned_tokens=100, courier_round_trip_seconds=7200 if s == "gamma" else 0)
        for s in SITES
    )
    world = World(members=members)
    world.ready()
    assert value(world, metric.SITE_ROUND_TRIP, "gamma") == 7200
    world.now += 10_000
    assert value(world, metric.AVAILABLE, "demo") == 1
    assert value(world, metric.ROUND_LIMIT, "demo") == 500 + 7200


def test_who_was_taken_out_is_no_member_any_more() -> None:
    world = World()
    world.ready()
    world.command(CommandKind.SITE_DRAIN, subject="beta")
    world.command(CommandKind.SITE_REVOKE, subject="gamma")
    assert [in_force(world, metric.SITE_STATE, site) for site in SITES] == ["active", "drained", "revoked"]
    assert (value(world, metric.MEMBERS, "demo"), value(world, metric.AVAILABLE, "demo")) == (1, 1)
    assert value(world, metric.SITE_LAST_SEEN, "gamma") is None
    assert value(world, metric.COSIGNED_LEAVES, "gamma") is None
    assert value(world, metric.MARGIN_RATIO, "demo") == pytest.approx(0.5)


def test_a_member_that_was_never_heard_is_known_by_its_runs() -> None:
    world = World()
    assert value(world, metric.SITE_RUNS, "gamma") == 1
    assert value(world, metric.SITE_LAST_SEEN, "gamma") is None
    world.command(CommandKind.RUN_ABORT)
    assert value(world, metric.SITE_RUNS, "gamma") == 0


def test_tokens_of_a_language_are_a_sites_own_word() -> None:
    world = eventful_world()
    assert values(snapshot_of(world), metric.LANGUAGE_TOKENS) == {("demo", "alpha", "fi"): 4096}


def test_a_witness_that_never_cosigned_stands_at_nothing() -> None:
    world = World()
    world.seen = replace(world.seen, witnessed={"alpha": 3})
    found = values(snapshot_of(world), metric.COSIGNED_LEAVES)
    assert found == {("alpha",): 3, ("beta",): 0, ("gamma",): 0}
    assert value(world, metric.WITNESSES_MISSING, "demo") == 1, "alpha's covers the approval, two are needed"


@pytest.mark.parametrize(("loss", "expected"), [(0.0, None), (2.5, 2.5)])
def test_no_loss_yet_is_not_a_loss_of_nothing(loss: float, expected: float | None) -> None:
    world = World()
    world.ready()
    world.tick()
    report(
        world,
        "alpha",
        participations=(ParticipationReport(run="demo", round=0, phase=Phase.TRAINING, step=1, loss=loss),),
    )
    assert value(world, metric.SITE_LOSS, "demo", "alpha") == expected


def test_a_loss_that_is_no_number_is_told_as_such() -> None:
    world = World()
    broken = ParticipationReport(run="demo", round=0, phase=Phase.TRAINING, step=1, loss=float("nan"))
    report(world, "alpha", participations=(broken,))
    assert 'federation_site_loss{run="demo",site="alpha"} NaN' in render(snapshot_of(world)).decode()


def test_what_a_site_calls_itself_cannot_break_the_text() -> None:
    world = World()
    report(world, "alpha", software='<script>"\n' + "x" * 10_000_000)
    lines = render(snapshot_of(world)).decode().splitlines()
    (line,) = [line for line in lines if line.startswith("federation_site_info{")]
    assert line.startswith('federation_site_info{site="alpha",software="<script>\\"xxx')
    assert len(line) < 200


# --- runs -----------------------------------------------------------------------------------------------------------


def test_rounds_that_stand_still_show_in_timestamps() -> None:
    world = World(num_rounds=5)
    for number in range(3):
        world.ready()
        world.tick(100)
        committed(world, number)
    assert value(world, metric.ROUND_INTERVAL, "demo") == 100
    assert value(world, metric.LAST_PROGRESS, "demo") == world.now
    assert value(world, metric.ROUND_OPENED, "demo") is None
    before = world.now
    world.now += 1000
    assert value(world, metric.LAST_PROGRESS, "demo") == before


def test_until_three_rounds_were_opened_the_interval_is_the_longest_that_one_may_last() -> None:
    world = World()
    world.ready()
    world.tick()
    assert value(world, metric.ROUND_INTERVAL, "demo") == 500
    assert value(world, metric.ROUND_OPENED, "demo") == world.now
    assert value(world, metric.ROUND_WAITING, "demo") == 3


def test_verdicts_are_counted_by_outcome_and_reason_from_zero() -> None:
    world = eventful_world()
    found = values(snapshot_of(world), metric.UPDATES)
    assert found["demo", "alpha", "admitted", "none"] == 2
    assert found["demo", "gamma", "declined", "loss-spike"] == 2
    assert found["demo", "alpha", "declined", "loss-spike"] == 0
    assert value(world, metric.UPLOADED, "demo", "alpha") == 16
    assert value(world, metric.TOKENS, "demo", "beta") == 200
    assert value(world, metric.STEPS, "demo", "gamma") == 0
    assert value(world, metric.DOWNLOADED, "demo") == 2 * 8 * 3


def test_counters_do_not_fall_when_a_commit_is_reverted() -> None:
    world = eventful_world()
    before = {
        s.metric.name + str(s.labels): s.value for s in samples(snapshot_of(world)) if s.metric.kind is Kind.COUNTER
    }
    assert value(world, metric.COSINE, "demo", "alpha") == 0.25
    world.command(CommandKind.RUN_ROLLBACK, number=0)
    after = {
        s.metric.name + str(s.labels): s.value for s in samples(snapshot_of(world)) if s.metric.kind is Kind.COUNTER
    }
    assert all(after[name] >= count for name, count in before.items())
    assert value(world, metric.REVERTED, "demo") == 1
    assert value(world, metric.COSINE, "demo", "alpha") == 0.5, "of the commit before"
    assert value(world, metric.RUN_COMMITS, "demo") == 1


def test_a_pause_has_its_reason() -> None:
    world = eventful_world()
    assert in_force(world, metric.RUN_STATE, "demo") == "paused"
    assert values(snapshot_of(world), metric.RUN_PAUSE) == {("demo", "operator"): 1}
    world.command(CommandKind.RUN_RESUME)
    assert values(snapshot_of(world), metric.RUN_PAUSE) == {}


def test_a_run_disappears_a_week_after_its_end() -> None:
    world = World()
    world.command(CommandKind.RUN_ABORT)
    world.now += 6.9 * DAY
    assert in_force(world, metric.RUN_STATE, "demo") == "aborted"
    assert value(world, metric.COSIGNED_LEAVES, "alpha") == 10**6, "who has cosigned stays known"
    world.now += 0.2 * DAY
    assert values(snapshot_of(world), metric.RUN_STATE) == {}


# --- scores ---------------------------------------------------------------------------------------------------------


def test_a_score_stands_beside_its_predecessor() -> None:
    world = eventful_world()
    assert value(world, metric.SCORE, "demo", "alpha", "mt") == 3.5
    assert value(world, metric.SCORE_BEFORE, "demo", "alpha", "mt") == 3.0
    assert value(world, metric.SCORED_COMMITS, "demo", "alpha") == 2


def test_the_first_score_has_no_predecessor() -> None:
    world = World()
    evaluated(world, "beta", 0, fi=2.0)
    assert value(world, metric.SCORE, "demo", "beta", "fi") == 2.0
    assert values(snapshot_of(world), metric.SCORE_BEFORE) == {}


def test_scores_of_a_model_that_was_reverted_do_not_count() -> None:
    world = eventful_world()
    world.command(CommandKind.RUN_ROLLBACK, number=0)
    assert value(world, metric.SCORE, "demo", "alpha", "fi") == 2.0
    assert value(world, metric.SCORED_COMMITS, "demo", "alpha") == 0


def test_a_score_on_another_text_is_no_predecessor() -> None:
    world = eventful_world()
    first, *rest = world.run.evaluations
    longer = replace(first, scores=tuple(replace(s, num_bytes=9) if s.language == "mt" else s for s in first.scores))
    world.state = replace(world.state, runs={"demo": replace(world.run, evaluations=(longer, *rest))})
    assert value(world, metric.SCORE_BEFORE, "demo", "alpha", "fi") == 2.0
    assert value(world, metric.SCORE_BEFORE, "demo", "alpha", "mt") is None


def test_a_second_score_of_the_same_model_is_no_progress() -> None:
    world = eventful_world()
    world.state = replace(
        world.state,
        runs={"demo": replace(world.run, evaluations=(*world.run.evaluations, world.run.evaluations[-1]))},
    )
    assert value(world, metric.SCORE_BEFORE, "demo", "alpha", "fi") == 2.0
