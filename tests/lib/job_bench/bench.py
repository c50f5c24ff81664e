# SPDX-License-Identifier: Apache-2.0
"""One inner loop on any file systems, with a clock that only moves when the loop rests."""

from collections.abc import Callable, Sequence

from federation.durable.api import FileSystem
from federation.manifest import Manifest
from job_bench.toy import ToyTrainer
from site_agent.inner_loop.claim import claim_allocation
from site_agent.inner_loop.evaluations import EvaluationQueue
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.patience import Patience
from site_agent.inner_loop.reporter import Reporter
from site_agent.inner_loop.seam import Evaluator, Float32Array, TaskScorer
from site_agent.inner_loop.spool import JobSpool
from site_agent.inner_loop.tasks import TaskQueue
from site_agent.inner_loop.writer import Writer
from site_agent.jobs import AllocationPaths, Claim, RunPaths, WorkOrder, read_record
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.metrics import MetricsLog


class RestingClock:
    """Time passes while the loop rests, and something else may happen then.

    Args:
        on_rest: called at every rest.
    """

    def __init__(self, on_rest: Callable[[], None] = lambda: None) -> None:
        self._now = 1_000_000.0
        self._on_rest = on_rest

    def now(self) -> float:
        """Seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Moves on."""
        self._now += seconds
        self._on_rest()


def work_order(site: str = "a", **changes: object) -> WorkOrder:
    """An order for tests: a job gives up at its second rest in a row."""
    values: dict[str, object] = {
        "run": "run-1",
        "site": site,
        "allocation": "a1",
        "fencing": 1,
        "manifest_path": "",
        "theta0_path": "",
        "run_dir": "",
        "data_dir": "",
        "languages": (),
        "seed": 0,
        "first_poll_seconds": 10.0,
        "poll_seconds": 10.0,
        "max_idle_seconds": 15.0,
    }
    return WorkOrder(**{**values, **changes})  # type: ignore[arg-type]


def toy_loop(
    manifest: Manifest,
    theta0: list[Float32Array],
    trainer: ToyTrainer,
    allocation: FileSystem,
    run: FileSystem,
    clock: RestingClock,
    *,
    order: WorkOrder | None = None,
    evaluator: Evaluator | None = None,
    writer: Writer | None = None,
    check_every: int = 1,
    scorers: Sequence[TaskScorer] = (),
    seconds: float = 0.0,
) -> InnerLoop:
    """An inner loop that has claimed its allocation; not begun."""
    order = order or work_order()
    owner = read_record(allocation, AllocationPaths().owner, Claim)
    claim = Claim(execution="test", fencing=1 if owner is None else owner.fencing + 1)
    claim_allocation(allocation, AllocationPaths(), claim)

    def make_model() -> GlobalModel:
        return GlobalModel(manifest, lambda: [theta.copy() for theta in theta0], check_every=check_every)

    spool = JobSpool(allocation, run, claim)
    patience = Patience(order, clock)
    return InnerLoop(
        manifest=manifest,
        site=order.site,
        trainer=trainer,
        exchange=Exchange(manifest, make_model(), LocalParameters(trainer.local_shards, manifest.fragments)),
        evaluations=EvaluationQueue(spool, evaluator, make_model),
        spool=spool,
        checkpoints=TrainingCheckpoints(run, RunPaths().training),
        reporter=Reporter(spool, MetricsLog(run, RunPaths().metrics), patience),
        patience=patience,
        writer=writer,
        tasks=TaskQueue(spool, scorers, make_model, seconds),
    )


def train(loop: InnerLoop, trainer: ToyTrainer) -> None:
    """Runs a loop to its end."""
    loop.begin()
    while (rate := loop.prepare()) is not None:
        loop.complete(*trainer.take(rate))
