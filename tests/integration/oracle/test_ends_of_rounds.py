# SPDX-License-Identifier: Apache-2.0
"""Abandoned rounds, sites left out of a seal, skipped windows: the federation still equals the oracle to the bit."""

from typing import Any

import pytest

from federation import commit_pass
from federation.reference import RoundPlan
from federation.testing.manifests import inner_settings

pytestmark = pytest.mark.usefixtures("short_chunks")

ABANDONED = RoundPlan(abandoned=True)
WITHOUT_B = RoundPlan(absent=frozenset({"b"}))
B_LATE = RoundPlan(not_sealed=frozenset({"b"}))
PLANS = {
    "one-abandoned": {1: ABANDONED},
    "first-two-abandoned": {0: ABANDONED, 1: ABANDONED},
    "left-out-of-a-seal": {0: B_LATE, 3: B_LATE},
    "abandoned-then-left-out": {2: ABANDONED, 3: B_LATE, 4: B_LATE},
    "skips-one": {3: WITHOUT_B},
    "skips-two-while-one-is-abandoned": {3: WITHOUT_B, 4: RoundPlan(absent=frozenset({"b"}), abandoned=True)},
    "joins-late": {0: WITHOUT_B, 1: WITHOUT_B},
    "everything": {0: WITHOUT_B, 2: ABANDONED, 3: B_LATE, 5: WITHOUT_B, 6: ABANDONED},
}


def plan(p: int, tau: int, num_rounds: int = 9, weighting: str = "tokens") -> dict[str, Any]:
    steps = {"a": 2 * p, "b": 2 * p, "c": 3 * p}
    return {"steps": steps, "num_fragments": p, "tau": tau, "num_rounds": num_rounds, "weighting": weighting}


@pytest.mark.parametrize(
    ("p", "tau", "alpha", "late"),
    [(1, 0, 0.5, False), (2, 2, 0.0, True), (4, 3, 0.5, False), (4, 3, 0.5, True), (4, 6, 1.0, True)],
)
@pytest.mark.parametrize("plans", PLANS.values(), ids=PLANS)
def test_equals_the_oracle(plans: dict[int, RoundPlan], p: int, tau: int, alpha: float, late: bool, lab: Any) -> None:
    setting = lab.setting(plan(p, tau), alpha=alpha, momentum=0.9, up="int4", down="int8", feedback_beta=0.95)
    assert lab.compare(*setting, plans=plans, late=late, restart=late and tau == 3) == []


def test_an_abandoned_round_leaves_the_state_and_every_site_at_the_base(lab: Any) -> None:
    """prime stepped each site on its own un-reduced update after failed reductions; a retry divided by the wrong n."""
    setting = lab.setting(plan(1, 0, num_rounds=2), alpha=1.0, momentum=0.9, down="int8")
    federation = lab.federate(*setting, plans={1: ABANDONED})
    first, second = federation.results
    assert (second.theta == first.theta).all()
    assert (second.momentum == first.momentum).all()
    assert (second.residual == first.residual).all()
    assert second.weights == {}
    for job in federation.jobs.values():
        assert (job.exchange._local.read(0) == first.theta).all()


def test_every_window_has_its_number_of_steps(lab: Any) -> None:
    """EXO Gym's first round ran H + 1 inner steps."""
    federation = lab.federate(*lab.setting(plan(2, 1, num_rounds=5)))
    assert {site: job.trainer.steps for site, job in federation.jobs.items()} == {"a": 10, "b": 10, "c": 15}


def test_all_sites_hold_the_committed_parameters_after_each_run(lab: Any) -> None:
    """templar#527: weights drifted apart although gathering seemed to work."""
    federation = lab.federate(*lab.setting(plan(4, 3), alpha=0.5, up="int4", down="int4", momentum=0.9))
    for p, digest in enumerate(federation.digests):
        assert {job.exchange.model.digests[p] for job in federation.jobs.values()} == {digest}


def test_a_joiner_climbs_to_the_schedule_that_the_others_are_at(lab: Any) -> None:
    """torchtitan#4598: a joiner with another learning rate diverged in silence."""
    inner = inner_settings(lr=0.05, warmup_steps=1, total_steps=9, joiner_warmup_steps=5)
    setting = lab.setting(plan(1, 0, num_rounds=6), inner=inner, momentum=0.9)
    assert lab.compare(*setting, plans={0: WITHOUT_B, 1: WITHOUT_B}) == []


def test_more_sites_than_decoded_chunks_are_held(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of sites a commit decodes each chunk twice instead of keeping it; the bits are the same."""
    monkeypatch.setattr(commit_pass, "_MAX_HELD_PARTS", 2)
    setting = lab.setting(plan(2, 1, num_rounds=4), up="int8", down="int4", momentum=0.9)
    assert lab.compare(*setting) == []
