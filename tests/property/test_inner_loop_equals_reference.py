# SPDX-License-Identifier: Apache-2.0
"""A job's payloads and parameters are the oracle's to the bit: for any setting, killed anywhere, writing late."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_bench.bench import RestingClock, toy_loop, train
from job_bench.late_writer import LateWriter
from job_bench.scripted_agent import ScriptedAgent
from job_bench.toy import PARAMETERS, ToyTrainer, toy_theta0

from federation.chunks import fragment_digest
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.fragments import build_fragments
from federation.manifest import Manifest
from federation.reference import Reference, RoundPlan
from federation.testing.manifests import inner_settings, manifest_of, plan_of
from site_agent.inner_loop.loop import InnerLoop
from site_agent.jobs import AllocationPaths, EndCode, StopOrder, UpdateFile, numbered, read_record, write_record

NUM_ROUNDS = 7
SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Case:
    manifest: Manifest
    plans: Mapping[int, RoundPlan]
    delay: int = 0
    check_every: int = 1


@st.composite
def cases(draw: st.DrawFn) -> Case:
    p = draw(st.sampled_from([1, 2, 4]))
    windows = {site: draw(st.integers(1, 3)) for site in ("a", "b", "c")[: draw(st.integers(1, 3))]}
    tau = draw(st.integers(0, min(windows.values()) * (p - 1)))
    plan = plan_of(
        {site: w * p for site, w in windows.items()},
        num_fragments=p,
        tau=tau,
        num_rounds=NUM_ROUNDS,
        weighting=draw(st.sampled_from(["uniform", "tokens"])),
        first_window_steps=draw(st.sampled_from([0, 1, 4])),
    )
    codecs = ["fp32", "bf16", "int8", "int4"]
    manifest = manifest_of(
        plan,
        build_fragments(PARAMETERS, p),
        alpha=draw(st.sampled_from([0.0, 0.5, 1.0])),
        momentum=draw(st.sampled_from([0.0, 0.9])),
        up=draw(st.sampled_from([*codecs, "sparse"])),
        down=draw(st.sampled_from([*codecs, "sparse-down"])),
        feedback_beta=draw(st.sampled_from([None, 0.95])),
        inner=inner_settings(lr=0.05, total_steps=20, warmup_steps=3),
    )
    plans = {k: draw(round_plans(sorted(windows))) for k in range(NUM_ROUNDS)}
    delay, check_every = draw(st.sampled_from([0, 1, 4, 10, 40])), draw(st.sampled_from([1, 2, 9]))
    return Case(with_theta0(manifest), plans, delay, check_every)


@st.composite
def round_plans(draw: st.DrawFn, sites: list[str]) -> RoundPlan:
    """Site a is the one under test; a round that nobody is left in is abandoned."""
    subsets = st.frozensets(st.sampled_from(sites), max_size=1)
    absent, not_sealed = draw(subsets), draw(subsets)
    nobody = not set(sites) - absent - not_sealed
    if set(sites) == absent:
        return RoundPlan(abandoned=True, absent=absent)
    return RoundPlan(abandoned=nobody or draw(st.integers(0, 4)) == 0, not_sealed=not_sealed, absent=absent)


def with_theta0(manifest: Manifest) -> Manifest:
    digests = tuple(fragment_digest(theta) for theta in toy_theta0(manifest))
    return replace(manifest, plan=replace(manifest.plan, theta_digests=digests))


class Machine:
    """Two directories that survive power loss, and the job of site a on them."""

    def __init__(self, case: Case, blob_dir: Path, seed: int = 0) -> None:
        self.case, self.manifest = case, case.manifest
        self.theta0 = toy_theta0(case.manifest)
        sites = {m.site: ToyTrainer(m.site) for m in case.manifest.plan.members}
        self.reference = Reference(case.manifest, self.theta0, sites)
        for k in range(NUM_ROUNDS):
            self.reference.run_round(case.plans.get(k))
        self.expected_local = sites["a"]
        self.agent = ScriptedAgent(case.manifest, "a", self.reference.history, case.plans, blob_dir)
        self.allocation, self.run = SimulatedFileSystem(seed), SimulatedFileSystem(seed + 1)
        self.sent: dict[int, list[tuple[UpdateFile, bytes]]] = {}
        self.trainer = ToyTrainer("a")

    def loop(self) -> InnerLoop:
        """A new execution of the job; while it rests, its writer and the agent catch up."""
        self.trainer, writer = ToyTrainer("a"), LateWriter(self.case.delay)

        def rest() -> None:
            writer.flush()
            self.agent.write_outcomes(self.allocation, self.run)

        self.agent.write_orders(self.allocation, self.run)
        self.agent.write_outcomes(self.allocation, self.run)
        return toy_loop(
            self.manifest,
            self.theta0,
            self.trainer,
            self.allocation,
            self.run,
            RestingClock(rest),
            writer=writer,
            check_every=self.case.check_every,
        )

    def start(self) -> EndCode:
        """A job from its begin to its end; what it published is kept, also if it crashes."""
        loop = self.loop()
        train(loop, self.trainer)
        self.collect()
        assert loop.ended is not None
        return loop.ended.code

    def reboot(self, *, successor: bool) -> None:
        self.allocation, self.run = self.allocation.crash(), self.run.crash()
        self.collect()
        if successor:
            self.allocation = SimulatedFileSystem(99)

    def collect(self) -> None:
        for number in numbered(self.allocation, AllocationPaths().updates):
            update = read_record(self.allocation, AllocationPaths().update(number), UpdateFile)
            payload = self.allocation.read(AllocationPaths().payload(number))
            self.sent.setdefault(number, []).append((update, payload))

    def check(self) -> None:
        expected = {k for k in range(NUM_ROUNDS) if self.agent.takes_part(k)}
        assert set(self.sent) == expected
        for number, copies in self.sent.items():
            result = self.reference.history[number]
            for update, payload in copies:
                assert payload == result.payloads["a"], f"round {number}"
                assert update.weight_tokens == result.weight_tokens["a"], f"round {number}"
                assert update.fragment == result.fragment

    def check_local(self) -> None:
        for name, value in self.expected_local.parameters().items():
            assert np.array_equal(value, self.trainer.parameters()[name]), name


@SETTINGS
@given(case=cases())
def test_an_undisturbed_job_equals_the_oracle(case: Case) -> None:
    with tempfile.TemporaryDirectory() as blobs:
        machine = Machine(case, Path(blobs))
        assert machine.start() is EndCode.IDLE
        machine.check()
        if machine.agent.takes_part(NUM_ROUNDS - 1):
            machine.check_local()


@SETTINGS
@given(
    case=cases(),
    seed=st.integers(0, 1000),
    crashes=st.lists(st.tuples(st.integers(1, 250), st.booleans()), min_size=1, max_size=4),
)
def test_a_job_that_loses_power_anywhere_equals_the_oracle(
    case: Case, seed: int, crashes: list[tuple[int, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as blobs:
        machine = Machine(case, Path(blobs), seed)
        for after, successor in crashes:
            count = 0

            def crash(_step: str, _path: str, after: int = after) -> None:
                nonlocal count
                count += 1
                if count == after:
                    raise SimulatedCrash

            machine.allocation.hook = machine.run.hook = crash
            try:
                machine.start()
                break
            except SimulatedCrash:
                machine.reboot(successor=successor)
        machine.allocation.hook = machine.run.hook = None
        assert machine.start() is EndCode.IDLE
        machine.check()
        if machine.agent.takes_part(NUM_ROUNDS - 1):
            machine.check_local()


@SETTINGS
@given(case=cases(), steps=st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_a_job_that_is_stopped_at_any_step_equals_the_oracle(case: Case, steps: list[int]) -> None:
    with tempfile.TemporaryDirectory() as blobs:
        machine = Machine(case, Path(blobs))
        for num_steps in steps:
            loop = machine.loop()
            left = [num_steps]
            loop.begin(lambda left=left: None if left[0] > 0 else "sigterm")
            while (rate := loop.prepare()) is not None:
                loop.complete(*machine.trainer.take(rate))
                left[0] -= 1
            machine.collect()
        assert machine.start() is EndCode.IDLE
        machine.check()


def test_a_completed_run_applies_every_outcome(tmp_path: Path) -> None:
    plan = plan_of({"a": 8, "b": 8}, num_fragments=4, tau=5, num_rounds=NUM_ROUNDS)
    manifest = with_theta0(manifest_of(plan, build_fragments(PARAMETERS, 4), alpha=0.5, momentum=0.9))
    machine = Machine(Case(manifest, {}), tmp_path)
    assert machine.start() is EndCode.IDLE
    machine.agent.write_outcomes(machine.allocation, machine.run)
    write_record(machine.allocation, AllocationPaths().stop, StopOrder(reason="completed"))
    assert machine.start() is EndCode.STOPPED
    machine.reference.finish()
    machine.check_local()
