# SPDX-License-Identifier: Apache-2.0
"""A site that joins when a dozen commits lie behind it: by snapshot, through crashes, and past a lying coordinator."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from simulator.checks import check
from simulator.jobs import FakeJob
from simulator.settings import RUN, Setting
from simulator.world import SiteMachine, World

from coordinator.snapshots import Snapshots
from federation.blobs.store import BlobStore
from federation.chunks import little_endian_bytes
from federation.errors import CorruptObjectError
from federation.messages import CommandKind
from federation.rounds import Run, RunState, Version
from site_agent import layout

ONE = Setting(num_rounds=18, patient=False)
TWO = Setting(num_fragments=2, tau=4, num_rounds=30, patient=False)
MAX_STEPS = 100_000  # hostile schedules take up to 45,000; what is stuck for ever is still found


def until(world: World, condition: Callable[[], object]) -> None:
    """Steps until the condition holds; an operator resumes a run that was paused."""
    resumed_at = -1
    for count in range(MAX_STEPS):
        run = world.state_of_run() if count % 8 == 0 else None
        if run is not None and run.state is RunState.PAUSED and run.state_since_us != resumed_at:
            resumed_at = run.state_since_us
            world.command(CommandKind.RUN_RESUME)
        if count % 8 == 0 and condition():
            return
        world.step()
    story = "\n".join(world.log)
    raise AssertionError(f"seed {world.seed}: the condition did not come true in {MAX_STEPS} steps\n{story}")


def commits(world: World) -> int:
    run = world.state_of_run()
    return run.num_commits() if run is not None else 0


def joined_late(setting: Setting, seed: int, *, faults: float = 0.0) -> tuple[World, SiteMachine, Run]:
    """The last site's machine is switched on when 12 commits of each fragment exist; the run is completed."""
    world = World(seed=seed, setting=setting)
    late = world.machines[-1]
    late.is_off = True
    until(world, lambda: commits(world) >= 12 * setting.num_fragments)
    late.is_off, world.faults = False, faults
    until(world, lambda: world.ended() and commits(world) == setting.num_rounds)
    world.faults = 0.0
    world.fs.hook = late.fs.hook = lambda step, path: None
    until(world, lambda: nothing_is_left(world, late))
    run = world.state_of_run()
    assert run is not None
    assert run.state is RunState.COMPLETED
    return world, late, run


def nothing_is_left(world: World, machine: SiteMachine) -> bool:
    """Whether the site has heard the end and its jobs have ended: it waits for nothing."""
    agent, coordinator = machine.agent, world.coordinator
    if agent is None or coordinator is None or agent.copy.size != coordinator.ledger.size:
        return False
    return agent.state.live_allocation(RUN) is None and not machine.launcher.living()


def thetas_of(world: World, machine: SiteMachine, run: Run) -> list[str]:
    """Digests of the heads as the site's next job would build them."""
    job = FakeJob(machine.fs, "nowhere", "inspector", world.manifest, machine.launcher.theta0)
    heads = [job.theta(fragment, head.number) for fragment, head in enumerate(run.heads())]
    assert all(theta is not None for theta in heads), "an outcome is missing"
    return [head.theta_digest for head in run.heads()]


def snapshots_loaded(machine: SiteMachine) -> list[int]:
    return [version for job in machine.launcher.jobs.values() for version in job.loaded]


def took_part(run: Run, machine: SiteMachine) -> list[int]:
    return [r.number for r in run.rounds.values() if any(u.site == machine.site for u in r.sealed)]


def has_blob(machine: SiteMachine, version: Version) -> bool:
    return BlobStore(machine.fs, layout.BLOBS).has(version.blob_digest)


@pytest.mark.parametrize("setting", [ONE, TWO], ids=["one fragment", "two fragments, tau"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_late_site_begins_from_a_snapshot(setting: Setting, seed: int) -> None:
    world, late, run = joined_late(setting, seed)
    assert snapshots_loaded(late), "its job began from a snapshot"
    assert took_part(run, late), "its updates were counted"
    assert thetas_of(world, late, run) == [head.theta_digest for head in run.heads()]
    assert not any(has_blob(late, chain[5]) for chain in run.versions), "it fetched what it has no use for"
    check(world)


@pytest.mark.parametrize("seed", range(8))
def test_it_joins_through_crashes_on_both_sides(seed: int) -> None:
    world, late, run = joined_late(TWO if seed == 7 else ONE, 100 + seed, faults=0.05)
    assert snapshots_loaded(late), "\n".join(world.log)
    assert took_part(run, late), "\n".join(world.log)
    assert thetas_of(world, late, run) == [head.theta_digest for head in run.heads()]
    check(world)


def test_the_coordinator_keeps_one_snapshot_of_a_fragment() -> None:
    world, _, run = joined_late(ONE, 3)
    assert world.coordinator is not None
    blobs = BlobStore(world.fs)
    (made,) = [s for s in world.coordinator.snapshots._made.values() if s is not None]
    assert blobs.size(made.blob_digest) == 4 * world.manifest.fragments[0].num_elements
    named = {v.blob_digest for chain in run.versions for v in chain}
    assert made.blob_digest not in named
    assert made.version in {v.number for v in run.versions[0]}


# --- what is wrong is refused -----------------------------------------------------------------------------------------


def another_theta(snapshots: Snapshots, run: str, fragment: int, version: Version) -> str:
    """A vector of the right length that is not the version's."""
    reader = snapshots.states.open(run, fragment, version.number)
    if reader is None:
        raise CorruptObjectError("gone")
    theta = reader.read_chunk(0).theta
    theta[0] += 1
    return snapshots.blobs.put(bytes(little_endian_bytes(theta)))


def too_short(snapshots: Snapshots, run: str, fragment: int, version: Version) -> str:
    """No vector of the fragment's length."""
    return snapshots.blobs.put(b"theta")


def none_at_all(snapshots: Snapshots, run: str, fragment: int, version: Version) -> str:
    """The coordinator cannot make one."""
    raise CorruptObjectError("the state store is damaged")


@contextmanager
def making(copy: Callable[..., str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Snapshots, "_copy", copy)
        yield


@pytest.mark.parametrize("copy", [another_theta, too_short, none_at_all])
def test_a_wrong_snapshot_is_refused_and_the_chain_is_fetched(copy: Callable[..., str]) -> None:
    with making(copy):
        world, late, run = joined_late(ONE, 5)
    assert snapshots_loaded(late) == []
    assert all(has_blob(late, version) for version in run.versions[0][1:])
    assert thetas_of(world, late, run) == [head.theta_digest for head in run.heads()]
    assert took_part(run, late), "it joined all the same"
    assert late.agent is not None
    ends = [a.end.reason for a in late.agent.state.allocations[RUN] if a.end is not None]
    assert ends.count("snapshot-refused") == (1 if copy is another_theta else 0)
    check(world)
