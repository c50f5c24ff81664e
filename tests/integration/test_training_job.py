# SPDX-License-Identifier: Apache-2.0
"""Real job processes against hand-written orders: killed at every failpoint, they send exactly the oracle's bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from job_bench.job_process import start_job
from job_bench.scripted_agent import ScriptedAgent

from federation.corpus import write_corpus
from federation.durable.real import RealFileSystem
from federation.leaves import LanguageScore
from federation.manifest import Manifest, ModelSettings
from federation.reference import Reference
from federation.testing.manifests import inner_settings, manifest_of, plan_of
from federation.wire import manifest_to_bytes
from site_agent.inner_loop.global_model import read_theta0
from site_agent.inner_loop.spool import JobSpool
from site_agent.jobs import (
    AllocationPaths,
    Claim,
    EndCode,
    EvaluationFile,
    EvaluationOrder,
    JobEnded,
    JobReport,
    JobState,
    RunPaths,
    StopOrder,
    TaskFile,
    UpdateFile,
    WorkOrder,
    numbered,
    read_record,
    write_record,
)
from site_agent.task_orders import Task, TaskPlan
from site_agent.trainer.init import THETA_FILE, InitSettings, initialise
from site_agent.trainer.llama import LlamaTrainer, make_repeatable, site_source
from site_agent.trainer.metrics import read_metrics

pytestmark = pytest.mark.processes

NUM_ROUNDS = 6
P = 2
SEED = 3
MODEL = ModelSettings(
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    max_positions=16,
    vocab_size=264,
    tie_embeddings=True,
)
JOB_FAILPOINTS = (
    "job.after-claim",
    "job.mid-window",
    "job.after-training-checkpoint",
    "job.after-encode",
    "job.after-publish",
    "job.before-merge",
    "job.after-merge",
)


class OracleSite:
    """The reference trainer as a site of the oracle's."""

    def __init__(self, trainer: LlamaTrainer) -> None:
        self._trainer = trainer

    def parameters(self) -> Mapping[str, np.ndarray]:
        return {shard.name: shard.tensor.numpy() for shard in self._trainer.local_shards()}

    def step(self, lr: float) -> int:
        return self._trainer.step(lr).tokens


class Bench:
    """A run's directory, and the oracle's history of it for one site."""

    def __init__(self, root: Path) -> None:
        self.root, self.data_dir = root, root / "data"
        write_corpus(self.data_dir, ("de", "fr"), 20_000)
        data, model = initialise(InitSettings(model=MODEL, num_fragments=P, seed=SEED))
        self.theta0_path, self.manifest_path = root / THETA_FILE, root / "manifest.bin"
        self.theta0_path.write_bytes(data)
        plan = plan_of({"a": 6}, num_fragments=P, tau=2, num_rounds=NUM_ROUNDS, theta_digests=model.theta_digests)
        inner = replace(inner_settings(lr=3e-3, total_steps=18, warmup_steps=2), grad_clip=1.0, weight_decay=0.1)
        manifest = manifest_of(
            plan, model.fragments, alpha=0.5, momentum=0.9, up="int4", down="int8", feedback_beta=0.95, inner=inner
        )
        trainer = replace(manifest.trainer, batch_size=2, sequence_length=16, seed=SEED, evaluation_bytes=300)
        self.manifest: Manifest = replace(manifest, model=MODEL, trainer=trainer, aliases=model.aliases)
        self.manifest_path.write_bytes(manifest_to_bytes(self.manifest))
        self.reference = self._run_oracle()
        blobs = root / "blobs"
        blobs.mkdir()
        self.agent = ScriptedAgent(self.manifest, "a", self.reference.history, {}, blobs)

    def _run_oracle(self) -> Reference:
        make_repeatable(1, SEED)
        source = site_source(self.manifest, self.data_dir, ("de", "fr"), "a", SEED)
        site = OracleSite(LlamaTrainer(self.manifest, [source]))
        reference = Reference(self.manifest, read_theta0(self.theta0_path, self.manifest), {"a": site})
        for _ in range(NUM_ROUNDS):
            reference.run_round()
        return reference


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


class Allocation:
    """One allocation of site a, with everything ordered and every outcome known."""

    def __init__(self, bench: Bench, run_dir: Path, name: str, **changes: object) -> None:
        self.bench, self.directory = bench, run_dir.parent / name
        self.fs, self.run = RealFileSystem(self.directory), RealFileSystem(run_dir)
        self.fencing, self.changes = 0, changes
        for number in range(NUM_ROUNDS):
            write_record(self.fs, AllocationPaths().round_order(number), bench.agent.order(number))
            write_record(self.run, RunPaths().outcome(number), bench.agent.outcome(number))

    def write_order(self) -> None:
        self.fencing += 1
        order = WorkOrder(
            run=self.bench.manifest.run,
            site="a",
            allocation=self.directory.name,
            fencing=self.fencing,
            manifest_path=str(self.bench.manifest_path),
            theta0_path=str(self.bench.theta0_path),
            run_dir=str(self.run.root),
            data_dir=str(self.bench.data_dir),
            languages=("de", "fr"),
            seed=SEED,
            max_idle_seconds=0.5,
            poll_seconds=0.05,
        )
        write_record(self.fs, AllocationPaths().order, replace(order, **self.changes))

    def start_command(self) -> subprocess.Popen[str]:
        self.write_order()
        command = [sys.executable, "-m", "site_agent.trainer.job", str(self.directory)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def start(self, failpoints: str = "", execution: str = "job-1") -> BaseProcess:
        self.write_order()
        environment = {"FEDERATION_FAILPOINTS": failpoints, "FEDERATION_EXECUTION": execution}
        return start_job(self.directory, environment, self.directory / "stderr")

    def run_job(self, failpoints: str = "", execution: str = "job-1") -> tuple[int | None, str]:
        process = self.start(failpoints, execution)
        process.join(timeout=120)
        return process.exitcode, (self.directory / "stderr").read_text()

    def updates(self) -> dict[int, tuple[UpdateFile, bytes]]:
        paths = AllocationPaths()
        found = {}
        for number in numbered(self.fs, paths.updates):
            update = read_record(self.fs, paths.update(number), UpdateFile)
            assert update is not None
            found[number] = (update, self.fs.read(paths.payload(number)))
        return found

    def ended(self) -> JobEnded:
        ended = read_record(self.fs, AllocationPaths().ended, JobEnded)
        assert ended is not None
        return ended


def check(bench: Bench, *allocations: Allocation) -> None:
    """Every round was sent, always with the oracle's bytes."""
    sent = [item for allocation in allocations for item in allocation.updates().items()]
    assert {number for number, _ in sent} == set(range(NUM_ROUNDS))
    for number, (update, payload) in sent:
        result = bench.reference.history[number]
        assert payload == result.payloads["a"], f"round {number}"
        assert update.weight_tokens == result.weight_tokens["a"]


def test_killed_at_every_failpoint_in_one_and_in_successor_allocations(bench: Bench, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    allocations = [Allocation(bench, run_dir, "a1"), Allocation(bench, run_dir, "a2")]
    for index, name in enumerate(JOB_FAILPOINTS):
        hit = 2 if name == "job.mid-window" else 1
        code, errors = allocations[index // 4].run_job(f"{name}=kill@{hit}", execution=f"job-{index // 4}")
        assert code == -signal.SIGKILL, f"{name}: {errors}"
    code, errors = allocations[1].run_job(execution="job-1")
    assert code == 0, errors
    assert allocations[1].ended().code is EndCode.IDLE
    check(bench, *allocations)
    report = read_record(allocations[1].fs, AllocationPaths().report, JobReport)
    assert report is not None
    assert report.language_tokens.keys() == {"de", "fr"}
    sent = dict(item for allocation in allocations for item in allocation.updates().items())
    trained = sum(update.new_tokens for update, _ in sent.values())
    assert sum(report.language_tokens.values()) == trained, "steps that were repeated count once"
    assert report.ready_at > 0


HARNESS = """
import json, sys
model, tasks, output = sys.argv[1:]
assert json.load(open(model + "/config.json"))["model_type"] == "llama"
results = {"results": {tasks: {"acc,none": 0.5}}, "versions": {tasks: 1}, "n-samples": {tasks: {"effective": 900}}}
json.dump(results, open(output + "/results.json", "w"))
"""


def benchmark(directory: Path) -> TaskPlan:
    """Tasks of a site: a file, one that is gone, and one of a command."""
    items = [{"context": "eins", "choices": [" a", " bb"], "answer": n} for n in (0, 1)]
    (directory / "items").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    (directory / "harness.py").write_text(HARNESS)
    command = (sys.executable, str(directory / "harness.py"), "{model}", "{tasks}", "{output}")
    tasks = (
        Task(name="quiz", language="de", path=str(directory / "items")),
        Task(name="gone", language="fr", path=str(directory / "gone")),
        Task(name="harness", language="de", harness_task="harness_de"),
    )
    return TaskPlan(tasks=tasks, command=command)


def test_evaluates_while_it_waits_and_says_how_fast_it_is(bench: Bench, tmp_path: Path) -> None:
    allocation = Allocation(bench, tmp_path / "run", "a1", max_idle_seconds=60.0, evaluation=benchmark(tmp_path))
    spool = JobSpool(allocation.fs, allocation.run, Claim(execution="agent", fencing=0))
    order = EvaluationOrder(
        id=1,
        request=0,
        num_commits=NUM_ROUNDS,
        versions=(NUM_ROUNDS - 1, NUM_ROUNDS),
        chains=tuple(tuple(chain) for chain in spool.chains(P, lambda j: True)),
    )
    initial = replace(order, id=2, request=4, num_commits=0, versions=(0, 0), chains=((), ()))
    for ordered in (order, initial):
        write_record(allocation.fs, AllocationPaths().evaluation(ordered.id), ordered)
    write_record(allocation.fs, AllocationPaths().task_order(1), replace(order, id=1))
    process = allocation.start_command()
    paths = AllocationPaths()
    last_files = (paths.evaluation_result(2), paths.task_result(1), paths.update(NUM_ROUNDS - 1))
    wait_for(lambda: all(map(allocation.fs.exists, last_files)) or process.poll() is not None)
    write_record(allocation.fs, AllocationPaths().stop, StopOrder(reason="completed"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert allocation.ended().code is EndCode.STOPPED
    trained, untrained = (scores(allocation, number) for number in (1, 2))
    assert [s.language for s in trained] == ["de", "fr"]
    assert all(before.bits_per_byte > after.bits_per_byte for before, after in zip(untrained, trained, strict=True))
    assert 7.5 < untrained[0].bits_per_byte < 8.5
    check(bench, allocation)  # whatever was scored in between: training has the same bits
    tasks = read_record(allocation.fs, AllocationPaths().task_result(1), TaskFile)
    assert tasks is not None
    assert tasks.problems == ("gone fr: expected a file of items, found: No such file or directory",)
    assert [(s.task, s.metric, s.num_items) for s in tasks.scores] == [
        ("quiz", "acc", 2),
        ("quiz", "acc_norm", 2),
        ("harness", "acc", 900),
    ]
    assert tasks.num_commits == NUM_ROUNDS
    lines = list(read_metrics(allocation.run.read(RunPaths().metrics)))
    assert [line["num_steps"] for line in lines] == list(range(1, 3 * NUM_ROUNDS + 1))
    report = read_record(allocation.fs, AllocationPaths().report, JobReport)
    assert report is not None
    assert report.state is JobState.ENDED


def scores(allocation: Allocation, number: int) -> tuple[LanguageScore, ...]:
    result = read_record(allocation.fs, AllocationPaths().evaluation_result(number), EvaluationFile)
    assert result is not None
    return result.scores


def test_a_signal_ends_it_at_a_step_and_the_successor_goes_on(bench: Bench, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    first = Allocation(bench, run_dir, "a1", max_idle_seconds=60.0)
    process = first.start()
    wait_for(lambda: first.fs.exists(AllocationPaths().report))
    process.terminate()
    process.join(timeout=60)
    assert process.exitcode == 0
    assert first.ended().code is EndCode.TERMINATED
    second = Allocation(bench, run_dir, "a2")
    assert second.run_job(execution="job-2")[0] == 0
    check(bench, first, second)


def test_another_execution_exits_at_once_and_leaves_everything_alone(bench: Bench, tmp_path: Path) -> None:
    allocation = Allocation(bench, tmp_path / "run", "a1")
    claim = Claim(execution="somebody", fencing=1)
    write_record(allocation.fs, AllocationPaths().owner, claim)
    code, errors = allocation.run_job(execution="job-2")
    assert code == 3
    assert "found execution somebody" in errors
    assert "Traceback" not in errors
    assert read_record(allocation.fs, AllocationPaths().owner, Claim) == claim
    assert not allocation.updates()
    assert not allocation.fs.exists(AllocationPaths().ended)


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"theta0_path": "nowhere"}, EndCode.MODEL_DIFFERS, "nowhere: expected theta_0"),
        ({"languages": ("xx",)}, EndCode.FAILED, "expected text of language xx"),
        ({"manifest_path": "nowhere"}, EndCode.FAILED, "nowhere: expected the run's manifest"),
    ],
    ids=["no-theta0", "no-text", "no-manifest"],
)
def test_an_operators_mistake_ends_it_with_a_sentence(
    bench: Bench, tmp_path: Path, changes: dict[str, object], code: EndCode, sentence: str
) -> None:
    allocation = Allocation(bench, tmp_path / "run", "a1", **changes)
    status, errors = allocation.run_job()
    assert status == 1
    assert "Traceback" not in errors
    assert allocation.ended().code is code
    assert sentence in allocation.ended().sentence
    report = read_record(allocation.fs, AllocationPaths().report, JobReport)
    assert report is not None
    assert sentence in report.error


def wait_for(condition: Callable[[], bool], seconds: float = 100) -> None:
    """Until the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not reached in time"
        time.sleep(0.02)
