# SPDX-License-Identifier: Apache-2.0
"""What `coordinator status` says that somebody has to see to."""

from types import SimpleNamespace
from typing import cast

import pytest
from decider_world import World

from coordinator.service import Coordinator
from coordinator.site_views import problems
from federation.durable.simulated import SimulatedFileSystem
from federation.messages import CommandKind


def everything(world: World) -> list[str]:
    roster = SimpleNamespace(sites=(), operators=())
    parts = SimpleNamespace(
        state=world.state,
        observations=world.seen,
        fs=SimulatedFileSystem(),
        rosters=SimpleNamespace(current=roster),
    )
    return problems(cast(Coordinator, parts))


def found(world: World) -> list[str]:
    """Problems that concern the run."""
    return [sentence for sentence in everything(world) if sentence.startswith("run ")]


def test_a_coordinator_without_a_compiler_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    world, slow = World(), "nothing compiles arithmetic here: commits take several times as long; install numba"
    assert slow not in everything(world)
    monkeypatch.setattr("coordinator.site_views.compiler", lambda: "")
    assert slow in everything(world)


def test_a_run_that_cannot_open_a_round_is_a_problem_until_its_quorum_is_ready() -> None:
    world = World()
    world.ready("alpha")
    (sentence,) = found(world)
    assert sentence.startswith("run demo: no round can open, too few sites are ready: 1 of 3 sites (alpha), 2 needed")
    world.ready("beta")
    assert found(world) == []


def test_excluded_members_are_not_ready() -> None:
    world = World()
    world.ready()
    assert found(world) == []
    world.command(CommandKind.SITE_REVOKE, subject="beta")
    world.command(CommandKind.SITE_DRAIN, subject="gamma")
    (sentence,) = found(world)
    assert "1 of 1 sites (alpha), 2 needed" in sentence


def test_a_run_that_does_not_run_or_has_no_round_left_is_none() -> None:
    world = World(num_rounds=1)
    world.ready()
    world.tick()
    world.command(CommandKind.SITE_REVOKE, subject="beta")
    world.command(CommandKind.SITE_REVOKE, subject="gamma")
    assert found(world) == [], "its only round is open"
    other = World()
    other.command(CommandKind.RUN_ABORT)
    assert found(other) == []
