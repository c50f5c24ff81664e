# SPDX-License-Identifier: Apache-2.0
"""Expected utilisation with a slow courier: the formula against a simulation of the schedule, and what is advised."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.plan import Member
from federation.round_trips import KnownRoundTrip, Source
from federation.run_config import parse_run_config, resolve
from federation.utilisation import WANTED_UTILISATION, Cycle, expected_of, warnings_of

MINIMAL = """
[run]
id = "tiny"
consortium = "test"
num_rounds = 9
[schedule]
num_inner_steps = 60
num_fragments = 4
tau = 15
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 1
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 16
[[sites]]
id = "alpha"
[[sites]]
id = "spool"
courier_round_trip_seconds = 1800
"""
PLAN = resolve(parse_run_config(MINIMAL)).plan


def simulated_window_seconds(cycle: Cycle, num_windows: int = 400) -> float:
    """Step by step: boundary, merges that are due, then a window that may begin; the mean of the second half."""
    now, boundaries = 0.0, []
    marks = []
    for position in range(cycle.window_steps * num_windows):
        if position and position % cycle.window_steps == 0:
            boundaries.append(now)
            marks.append(now)
        due = position - cycle.tau
        if due > 0 and due % cycle.window_steps == 0:
            now = max(now, boundaries[due // cycle.window_steps - 1] + cycle.outcome_seconds)
        if position % cycle.window_steps == 0:
            window = position // cycle.window_steps
            ended = window - cycle.max_rounds_in_flight
            if ended >= 0:
                now = max(now, boundaries[ended] + cycle.outcome_seconds)
        now += cycle.step_seconds
    half = len(marks) // 2
    return (marks[-1] - marks[half]) / (len(marks) - 1 - half)


@st.composite
def cycles(draw: st.DrawFn) -> Cycle:
    window, fragments = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    tau = draw(st.integers(0, (fragments - 1) * window))
    return Cycle(
        window_steps=window,
        tau=tau,
        num_fragments=fragments,
        max_rounds_in_flight=draw(st.integers(1 + -(-tau // window), fragments)),
        step_seconds=draw(st.integers(1, 5)),
        outcome_seconds=draw(st.integers(0, 60)),
    )


@settings(max_examples=200, deadline=None)
@given(cycle=cycles())
def test_the_formula_is_what_a_simulation_finds(cycle: Cycle) -> None:
    # A cycle of several windows need not fit the half a whole number of times.
    assert simulated_window_seconds(cycle) == pytest.approx(cycle.window_seconds, rel=0.04)
    assert 0 < cycle.utilisation <= 1


def test_without_a_courier_to_wait_for_there_is_nothing_to_say() -> None:
    members = tuple(replace(member, courier_round_trip_seconds=0) for member in PLAN.members)
    plan = replace(PLAN, members=members)
    assert warnings_of(plan, {"alpha": 1.0, "spool": 1.0}) == ()
    assert warnings_of(replace(plan, members=()), {}) == ()
    assert {found.cycle.utilisation for found in expected_of(plan, {"alpha": 1.0, "spool": 1.0}) if found.cycle} == {
        1.0
    }


def test_the_warning_states_the_numbers_and_what_to_change() -> None:
    alpha, spool = warnings_of(PLAN, {"alpha": 2.0, "spool": 2.0})
    # W s = 30 s, q = 1: 30 + (1800 - 30) / 2 = 915 s; half of the way is the slowest site's for alpha: 465 s.
    assert spool.startswith("spool is expected to train 3 % of the time: its window of 15 inner steps takes 30 seconds")
    assert "15 minutes of waiting" in spool
    assert "slowest courier: spool, 1800 s" in spool
    assert "tau = 15 steps are 30 seconds" in spool
    assert alpha.startswith("alpha is expected to train 6 % of the time")


@pytest.mark.parametrize("seconds", [2.0, 20.0, 45.0])
def test_what_is_advised_is_enough_and_no_more_than_that(seconds: float) -> None:
    said = warnings_of(PLAN, {"alpha": 1e6, "spool": seconds})
    assert len(said) == 1
    steps = re.search(r"num_inner_steps = (\d+)", said[0])
    assert steps is not None
    h = int(steps[1])
    assert h % 4 == 0
    assert utilisation(h, 15, 4, seconds) >= WANTED_UTILISATION > utilisation(h - 4, 15, 4, seconds)
    if tau := re.search(r"tau = (\d+)(?: with max_rounds_in_flight = (\d))?[;,]", said[0].split("For 90 %")[1]):
        in_flight = int(tau[2] or 4)
        assert utilisation(60, int(tau[1]), in_flight, seconds) >= WANTED_UTILISATION
        assert utilisation(60, int(tau[1]) - 1, in_flight, seconds) < WANTED_UTILISATION
    else:
        assert utilisation(60, 45, 4, seconds) < WANTED_UTILISATION


def utilisation(h: int, tau: int, in_flight: int, seconds: float) -> float:
    members = (Member(site="spool", num_inner_steps=h, planned_tokens=1, courier_round_trip_seconds=1800),)
    plan = replace(PLAN, members=members, tau=tau, max_rounds_in_flight=in_flight)
    (found,) = expected_of(plan, {"spool": seconds})
    assert found.cycle is not None
    return found.cycle.utilisation


def test_one_fragment_is_advised_to_become_several() -> None:
    plan = replace(PLAN, num_fragments=1, tau=0, max_rounds_in_flight=1)
    said = warnings_of(plan, {"alpha": 1.0, "spool": 1.0})[1]
    assert "several fragments" in said


def test_a_site_without_an_estimate_is_told_the_step_that_would_do() -> None:
    said = warnings_of(PLAN, {"alpha": 1e6})
    assert len(said) == 1
    seconds = float(re.search(r"takes (\S+) s or more", said[0])[1])  # type: ignore[index]
    assert utilisation(60, 15, 4, seconds * 1.01) >= WANTED_UTILISATION > utilisation(60, 15, 4, seconds * 0.99)


def test_a_round_trip_that_was_measured_counts_and_is_said_to_be() -> None:
    known = {"spool": KnownRoundTrip(seconds=3600, source=Source.MEASURED)}
    alpha, spool = warnings_of(PLAN, {"alpha": 2.0, "spool": 2.0}, known)
    # W s = 30 s, q = 1: 30 + (3600 - 30) / 2 = 1815 s.
    assert spool.startswith("spool is expected to train 2 % of the time")
    for said in (alpha, spool):
        assert "slowest courier: spool, 3600 s, as its agent measured)" in said
    longer = {"alpha": KnownRoundTrip(seconds=7200, source=Source.DECLARED)}
    assert "slowest courier: alpha, 7200 s, as the site declares" in warnings_of(PLAN, {}, longer)[0]


def test_what_run_toml_says_needs_no_source() -> None:
    known = {member.site: KnownRoundTrip(seconds=1800, source=Source.RUN) for member in PLAN.members}
    assert "slowest courier: spool, 1800 s)" in warnings_of(PLAN, {"spool": 2.0}, known)[-1]
