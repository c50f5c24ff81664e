# SPDX-License-Identifier: Apache-2.0
"""2,000 seeded schedules of crashes, power losses, killed jobs and cut-off sites, each checked for I1-I3 and I6.

A failing seed prints its number; `FEDERATION_SIMULATOR_SEEDS=17,42` runs just these.
"""

import os

import pytest
from simulator.checks import check, undisturbed
from simulator.settings import Setting
from simulator.world import World

from federation.rounds import RunState

NUM_SCHEDULES = 2000
PER_TEST = 25
MAX_STEPS = 9000


def setting_of(seed: int) -> Setting:
    """Two of three schedules require every site and have no deadlines; codecs, fragments and sites vary."""
    return Setting(
        num_sites=2 + seed % 2,
        num_fragments=1 + (seed // 2) % 2,
        num_rounds=2,
        codec=("int4", "fp32", "int8", "bf16")[seed % 4],
        momentum=0.9 if seed % 5 else 0.0,
        patient=seed % 3 > 0,
    )


def seeds_of(batch: int) -> list[int]:
    """Seeds of one test."""
    asked = os.environ.get("FEDERATION_SIMULATOR_SEEDS", "")
    if asked:
        return [int(seed) for seed in asked.split(",")] if batch == 0 else []
    return list(range(batch * PER_TEST, (batch + 1) * PER_TEST))


@pytest.mark.parametrize("batch", range(NUM_SCHEDULES // PER_TEST))
def test_invariants_hold_under_every_schedule(batch: int) -> None:
    for seed in seeds_of(batch):
        setting = setting_of(seed)
        world = World(seed=seed, setting=setting, faults=0.04).run(MAX_STEPS)
        run = world.state_of_run()
        story = "\n".join((f"seed {seed}, {setting}", *world.log))
        assert run is not None, story
        if setting.patient:
            assert run.state is RunState.COMPLETED, story
            assert tuple(h.theta_digest for h in run.heads()) == undisturbed(setting), story
        else:
            assert run.state in (RunState.COMPLETED, RunState.PAUSED), story
        try:
            check(world)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{story}") from error


def test_the_same_seed_gives_the_same_ledger() -> None:
    worlds = [World(seed=11, setting=setting_of(11), faults=0.04).run(MAX_STEPS) for _ in range(2)]
    roots = [world.coordinator.ledger.root() for world in worlds if world.coordinator]
    assert len(roots) == 2
    assert roots[0] == roots[1]
