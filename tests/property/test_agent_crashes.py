# SPDX-License-Identifier: Apache-2.0
"""An agent that is killed anywhere goes on: one digest per round, one execution per allocation (I2, I5)."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_site import OTHER, RUN, SITE, OneSite
from virtual_jobs import ROOT, VirtualLauncher

from federation import dsse, wire
from federation import leaves as lv
from federation.durable import failpoints
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.messages import EvaluationOffer, UpdateOffer

NUM_ROUNDS = 2
MAX_STEPS = 400


class CrashingSite:
    """`OneSite` on a simulated disk, with a script on the coordinator's side that commits two rounds."""

    def __init__(self, seed: int = 0) -> None:
        self.launcher = VirtualLauncher()
        fs = SimulatedFileSystem(seed)
        self.world = OneSite(SimulatedFileSystem(seed + 1), fs, ROOT, self.launcher)
        self.num_restarts = 0
        self.world.coordinator.create()
        self.world.coordinator.start()
        self.script = self._script()
        self.done = False

    def _script(self) -> Any:
        coordinator = self.world.coordinator
        for number in range(NUM_ROUNDS):
            while not self._has_job():
                yield
            coordinator.open(number)
            while not self.digests(number):
                yield
            (digest,) = self.digests(number)
            coordinator.commit(number, digest)
            coordinator.cosign_as(OTHER)
            coordinator.tell()
        coordinator.append(lv.RunCompletedV1(run=RUN))
        while len({e.signed_evaluation for e in coordinator.of(EvaluationOffer)}) < 2:
            yield

    def _has_job(self) -> bool:
        return any(job.alive for job in self.launcher.jobs.values())

    def digests(self, number: int) -> set[str]:
        """Payload digests that the site has signed for a round."""
        public = self.world.consortium.public(f"site/{SITE}/update")
        offers = self.world.coordinator.of(UpdateOffer)
        opened = [dsse.open_envelope(offer.signed_update, dsse.UPDATE_TYPE, public) for offer in offers]
        return {u.payload_digest for u in map(wire.update_from_bytes, opened) if u.round == number}

    def crash(self, *, power: bool) -> None:
        """The agent is gone; after a power loss the jobs are too, and what was not fsynced."""
        fs = self.world.fs
        assert isinstance(fs, SimulatedFileSystem)
        self.world.fs = fs.crash() if power else fs.kill()
        if power:
            for job in self.launcher.jobs.values():
                job.alive = False
        self.num_restarts += 1

    def step(self, *, power: bool) -> None:
        """One step; a crash in it is followed by a new process."""
        self.world.now += 2.0
        try:
            if self.num_restarts and self.world.agent.fs is not self.world.fs:
                self.world.start_agent(new_epoch=True)
            self.world.step()
            alive = [job for job in self.launcher.jobs.values() if job.alive]
            assert len(alive) <= 1, f"jobs beside each other: {[job.directory for job in alive]}"
            for job in alive:
                job.step(self.world.fs)  # type: ignore[arg-type]
        except SimulatedCrash:
            self.crash(power=power)
        if not self.done:
            self.done = next(self.script, "end") == "end"

    def run(self, *, power: bool = True) -> "CrashingSite":
        """Steps until the script is done."""
        for _ in range(MAX_STEPS):
            self.step(power=power)
            if self.done:
                return self
        raise AssertionError(f"the run did not end; journal: {self.world.agent.state}")

    def check(self) -> None:
        """The invariants."""
        for number in range(NUM_ROUNDS):
            assert len(self.digests(number)) == 1, f"round {number} was signed twice"
        by_directory: dict[str, set[str]] = {}
        for job in self.launcher.jobs.values():
            if job.published:
                by_directory.setdefault(job.directory, set()).add(job.execution)
        assert all(len(executions) == 1 for executions in by_directory.values()), by_directory
        assert not self.world.agent.fault


def test_without_a_crash_there_is_one_job() -> None:
    site = CrashingSite().run()
    site.check()
    assert len(site.launcher.jobs) == 1
    assert site.num_restarts == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operation=st.integers(1, 900), seed=st.integers(0, 3), power=st.booleans())
def test_a_crash_at_any_durable_operation(operation: int, seed: int, power: bool) -> None:
    site = CrashingSite(seed)
    fs = site.world.fs
    assert isinstance(fs, SimulatedFileSystem)
    left = [operation]

    def hook(step: str, path: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise SimulatedCrash(f"{step} {path}")

    fs.hook = hook
    site.run(power=power).check()


AGENT_FAILPOINTS = sorted(name for name in failpoints.FAILPOINTS if name.startswith("agent."))


@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@pytest.mark.parametrize("name", AGENT_FAILPOINTS)
def test_a_crash_at_every_failpoint(name: str, power: bool, hit: int) -> None:
    site, hits = CrashingSite(), [0]

    def callback(reached: str) -> None:
        hits[0] += reached == name
        if reached == name and hits[0] == hit:
            raise SimulatedCrash(name)

    failpoints.install(callback)
    try:
        site.run(power=power)
    finally:
        failpoints.uninstall()
    assert hits[0] >= 1, f"{name} was never reached"
    site.check()
