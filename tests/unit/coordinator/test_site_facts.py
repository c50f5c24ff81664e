# SPDX-License-Identifier: Apache-2.0
"""What sites say about themselves, as the coordinator keeps and shows it: as it was said, or not at all."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from decider_world import World

from coordinator import observation_store
from coordinator.observation_store import STATUS
from coordinator.service import Coordinator
from coordinator.site_views import site_line
from federation.durable.simulated import SimulatedFileSystem
from federation.messages import LanguageTokens, RunBudget, SiteFacts, SiteStatus, StartChange

FACTS = SiteFacts(
    profile="lumi",
    accelerator="AMD Instinct MI250X",
    num_accelerators=8,
    may_start=True,
    next_change=StartChange.HOURS,
    next_change_seconds=60,
    budgets=(RunBudget(run="demo", gpu_hours_effective=1.5, forecast_gpu_hours=7.0),),
    language_tokens=(LanguageTokens(run="demo", language="fi", tokens=12),),
)


def world_of(facts: SiteFacts | None, **status: Any) -> World:
    world = World()
    world.seen = world.seen.seen("alpha", SiteStatus(ledger_size=0, facts=facts, **status), world.now)
    return world


def line(world: World, site: str = "alpha") -> dict[str, Any]:
    parts = SimpleNamespace(state=world.state, observations=world.seen)
    return site_line(cast(Coordinator, parts), site)


def test_facts_survive_a_restart_of_the_coordinator() -> None:
    fs, world = SimulatedFileSystem(), world_of(FACTS)
    observation_store.save(fs, "alpha", world.seen.sites["alpha"])
    assert observation_store.load(fs).sites["alpha"] == world.seen.sites["alpha"]


def test_a_report_that_an_older_coordinator_kept_has_none() -> None:
    fs, world = SimulatedFileSystem(), world_of(FACTS)
    observation_store.save(fs, "alpha", world.seen.sites["alpha"])
    kept = json.loads(fs.read(f"{STATUS}/alpha.json"))
    del kept["status"]["facts"]
    fs.write(f"{STATUS}/alpha.json", json.dumps(kept).encode())
    assert observation_store.load(fs).sites["alpha"].status.facts is None


def test_they_are_shown_as_json_and_what_is_not_known_is_null() -> None:
    shown = json.loads(json.dumps(line(world_of(FACTS))["facts"], allow_nan=False))
    assert (shown["profile"], shown["next_change"], shown["num_accelerators"]) == ("lumi", "hours", 8)
    assert shown["budgets"][0]["gpu_hours_effective"] == 1.5
    assert shown["language_tokens"] == [{"run": "demo", "language": "fi", "tokens": 12}]
    assert line(world_of(None))["facts"] is None
    assert line(world_of(None), "beta")["facts"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": "<script>alert(1)</script>"},
        {"accelerator": "x" * 10_000},
        {"torch": "the text of a site"},
        {"budgets": (RunBudget(run="demo", gpu_hours_idle=float("nan")),)},
        {"budgets": (RunBudget(run="demo", native_spent=float("inf")),)},
        {"language_tokens": (LanguageTokens(run="demo", language="<b>", tokens=1),)},
    ],
)
def test_what_no_honest_agent_says_is_not_shown(changes: dict[str, Any]) -> None:
    assert line(world_of(replace(FACTS, **changes)))["facts"] is None


def test_the_clocks_difference_has_the_courier_s_way_in_it() -> None:
    world = world_of(None)
    for sent, skew in ((world.now - 90.5, 90.5), (world.now + 3600.0, -3600.0)):
        assert line(world_of(None, sent_at_us=int(sent * 1e6)))["clock_skew_seconds"] == pytest.approx(skew, abs=0.01)
    assert line(world)["clock_skew_seconds"] is None
    assert line(world, "beta")["clock_skew_seconds"] is None
