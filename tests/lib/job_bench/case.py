# SPDX-License-Identifier: Apache-2.0
"""Site a's job in a run of two sites whose history is known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from federation.chunks import fragment_digest
from federation.durable.api import FileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.fragments import build_fragments
from federation.manifest import Manifest
from federation.reference import Reference, RoundPlan
from federation.testing.manifests import inner_settings, manifest_of, plan_of
from job_bench.bench import RestingClock, toy_loop, train, work_order
from job_bench.scripted_agent import ScriptedAgent
from job_bench.toy import PARAMETERS, Shapes, ToyTrainer, toy_theta0
from site_agent.inner_loop.loop import InnerLoop
from site_agent.jobs import AllocationPaths, JobReport, RunPaths, UpdateFile, WorkOrder, read_record, write_record

NUM_ROUNDS = 6
A, R = AllocationPaths(), RunPaths()


def toy_manifest(
    *,
    max_loss: float = 0.0,
    joiner_warmup_steps: int = 0,
    feedback: float | None = 0.9,
    shapes: Shapes = PARAMETERS,
) -> Manifest:
    """Two fragments, tau 1, alpha one half, int4 updates with error feedback, int8 commits."""
    inner = replace(inner_settings(lr=0.05), max_loss=max_loss, joiner_warmup_steps=joiner_warmup_steps)
    manifest = manifest_of(
        plan_of({"a": 4, "b": 4}, num_fragments=2, tau=1, num_rounds=NUM_ROUNDS),
        build_fragments(shapes, 2),
        alpha=0.5,
        momentum=0.9,
        up="int4",
        down="int8",
        feedback_beta=feedback,
        inner=inner,
    )
    digests = tuple(fragment_digest(theta) for theta in toy_theta0(manifest))
    return replace(manifest, plan=replace(manifest.plan, theta_digests=digests))


class Case:
    """Site a's job, with the history of a run of two sites."""

    def __init__(
        self,
        tmp_path: Path,
        manifest: Manifest,
        plans: dict[int, RoundPlan] | None = None,
        shapes: Shapes = PARAMETERS,
    ) -> None:
        self.manifest, self.theta0, self.plans, self.shapes = manifest, toy_theta0(manifest), plans or {}, shapes
        self.reference = Reference(manifest, self.theta0, {site: ToyTrainer(site, shapes) for site in "ab"})
        for number in range(NUM_ROUNDS):
            self.reference.run_round(self.plans.get(number))
        self.agent = ScriptedAgent(manifest, "a", self.reference.history, self.plans, tmp_path)
        self.allocation: FileSystem = SimulatedFileSystem()
        self.run: FileSystem = SimulatedFileSystem(1)
        self.trainer = ToyTrainer("a", shapes)
        self.on_rest: Callable[[], None] = lambda: None

    def order(self, *numbers: int, **changes: object) -> None:
        """Writes orders as they would come, with changes."""
        for number in numbers:
            order = replace(self.agent.order(number), **changes)  # type: ignore[arg-type]
            write_record(self.allocation, A.round_order(number), order)

    def end(self, *numbers: int, **changes: object) -> None:
        """Writes outcomes as they would come, with changes."""
        for number in numbers:
            outcome = replace(self.agent.outcome(number), **changes)  # type: ignore[arg-type]
            write_record(self.run, R.outcome(number), outcome)

    def loop(self, **changes: object) -> InnerLoop:
        """A new execution of the job, not begun."""
        self.trainer = ToyTrainer("a", self.shapes)
        clock = RestingClock(lambda: self.on_rest())
        order: WorkOrder = work_order(**changes)
        return toy_loop(self.manifest, self.theta0, self.trainer, self.allocation, self.run, clock, order=order)

    def train(self, **changes: object) -> InnerLoop:
        """A new execution, trained until it ends."""
        loop = self.loop(**changes)
        train(loop, self.trainer)
        return loop

    def update(self, number: int) -> UpdateFile | None:
        """What it published."""
        return read_record(self.allocation, A.update(number), UpdateFile)

    def report(self) -> JobReport:
        """Its last report."""
        report = read_record(self.allocation, A.report, JobReport)
        assert report is not None
        return report
