# SPDX-License-Identifier: Apache-2.0
"""What an agent sees and keeps, as samples of its catalogue."""

from math import nan
from typing import Any

import pytest
from agent_situations import RUN, SITE, Situation
from monitored_world import agent_snapshot, busy_agent, waiting_agent

from federation.exposition import Metric, exposition
from site_agent.metrics import catalogue as metric
from site_agent.metrics.projection import samples
from site_agent.policy import PerRun


def values(situation: Situation, wanted: Metric, **changes: Any) -> dict[tuple[str, ...], float]:
    """A family's values by its labels but the site, which is always this one; each combination once."""
    found = [sample for sample in samples(agent_snapshot(situation, **changes)) if sample.metric is wanted]
    assert all(sample.labels[0] == SITE for sample in found)
    by_labels = {sample.labels[1:]: sample.value for sample in found}
    assert len(by_labels) == len(found), f"{wanted.name}: the same labels twice"
    return by_labels


def in_force(situation: Situation, wanted: Metric) -> str:
    (word,) = [labels[-1] for labels, value in values(situation, wanted).items() if value == 1]
    return word


def test_everything_in_the_catalogue_is_exported_and_nothing_else() -> None:
    busy, waiting = (list(samples(agent_snapshot(s))) for s in (busy_agent(), waiting_agent()))
    assert {sample.metric.name for sample in (*busy, *waiting)} == {known.name for known in metric.ALL}
    for known in metric.ALL:
        values(busy_agent(), known)


GOLDEN = """\
# HELP federation_agent_loss Training loss of the job's newest reported inner step.
# TYPE federation_agent_loss gauge
federation_agent_loss{run="run-1",site="alpha"} 2.5
# HELP federation_agent_step_duration_seconds Time of an inner step.
# TYPE federation_agent_step_duration_seconds gauge
federation_agent_step_duration_seconds{run="run-1",site="alpha"} 0.5
"""


def test_the_text_is_what_it_was() -> None:
    assert GOLDEN in exposition(samples(agent_snapshot(busy_agent()))).body.decode()


def test_a_job_that_trains() -> None:
    found = busy_agent()
    assert values(found, metric.ALLOCATIONS)[RUN, "ready"] == 1
    assert values(found, metric.ALLOCATIONS)[RUN, "ended"] == 1
    assert in_force(found, metric.PHASE) == "training"
    assert values(found, metric.STEP) == {(RUN,): 3}
    assert values(found, metric.LEFT) == {(RUN,): 600}
    assert values(found, metric.QUEUE_WAIT) == {}
    assert (values(found, metric.FAILED), values(found, metric.FAILURES)) == ({(RUN,): 1}, {(RUN,): 1})


def test_a_job_that_waits() -> None:
    found = waiting_agent()
    assert values(found, metric.ALLOCATIONS)[RUN, "queued"] == 1
    assert values(found, metric.QUEUE_WAIT) == {(RUN,): 100}
    assert values(found, metric.EXPECTED_START) == {(RUN,): 50}
    assert in_force(found, metric.PHASE) == "invited"
    assert values(found, metric.LOSS) == {}


def test_a_run_without_any_job_yet() -> None:
    found = Situation().started()
    assert set(values(found, metric.ALLOCATIONS).values()) == {0}
    assert in_force(found, metric.PHASE) == "waiting"
    assert values(found, metric.COSIGNED) == {(): 0}
    assert values(found, metric.BUDGET) == {(RUN,): 0}


def test_the_budget_counts_as_the_policy_does() -> None:
    found = busy_agent()
    assert values(found, metric.GPU) == {(RUN, "spent"): 4 * 3600, (RUN, "committed"): 4 * 7200}
    assert values(found, metric.NATIVE) == {(RUN, "core-hours"): 12 * 16}
    assert values(found, metric.BUDGET) == {(RUN,): pytest.approx(12 / 20)}


@pytest.mark.parametrize(
    ("limits", "ratio"),
    [
        (PerRun(), None),
        (PerRun(gpu_hours=0.0), None),
        (PerRun(native_units=200.0), 192 / 200),
        (PerRun(gpu_hours=100.0, native_units=200.0), 192 / 200),
    ],
)
def test_the_tightest_limit_counts(limits: PerRun, ratio: float | None) -> None:
    snapshot = agent_snapshot(busy_agent())
    policy = snapshot.judge.policy.model_copy(update={"per_run": limits})
    judge = type(snapshot.judge)(policy=policy, site=SITE, consortium="test", trainers={}, unit=snapshot.judge.unit)
    found = values(busy_agent(), metric.BUDGET, judge=judge)
    assert found == ({} if ratio is None else {(RUN,): pytest.approx(ratio)})


def test_a_fault_and_a_loss_that_is_no_number_are_told() -> None:
    found = busy_agent().see(fault="two histories")
    assert values(found, metric.FAULT) == {(): 1}
    (loss,) = values(busy_agent().job(2, loss=nan, round=0), metric.LOSS).values()
    assert loss != loss


def test_what_is_not_known_is_left_out() -> None:
    found = busy_agent().see(heard_at_us=0, round_trip_seconds=0.0)
    unknown = {"courier": None, "free_bytes": None, "spool_bytes": None, "credentials": {}}
    names = {sample.metric.name for sample in samples(agent_snapshot(found, **unknown))}
    gone = (metric.HEARD, metric.CONNECTED, metric.FREE, metric.SPOOL, metric.CREDENTIAL_EXPIRY, metric.ROUND_TRIP)
    assert names.isdisjoint(missing.name for missing in gone)
