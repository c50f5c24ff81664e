# SPDX-License-Identifier: Apache-2.0
"""The reference trainer under torchrun: killed, asked to end, and resumed on another number of ranks."""

import signal
import time
from pathlib import Path

import pytest
from rank_bench.job import NUM_ROUNDS, Site, ended, log_of, payloads
from rank_bench.start import wait_for

from site_agent.inner_loop.preflight import PREFLIGHT_FILE, DeviceKind, PreflightReport
from site_agent.inner_loop.progress import SavedLoop
from site_agent.jobs import AllocationPaths, EndCode, JobReport, RunPaths, read_record
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.metrics import read_metrics

pytestmark = pytest.mark.processes

BOUND_SECONDS = 90
A = AllocationPaths()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_killed_rank_ends_the_execution_and_the_successor_sends_the_same_bytes(tmp_path: Path, strategy: str) -> None:
    undisturbed, disturbed = Site(tmp_path / "undisturbed"), Site(tmp_path / "disturbed")
    whole = undisturbed.run_job("a1", 2, parallelism=strategy)
    expected = payloads(whole)
    assert sorted(expected) == list(range(NUM_ROUNDS))
    ended_well = ended(whole)
    assert ended_well is not None
    assert ended_well.code is EndCode.IDLE

    first = disturbed.allocate("a1", parallelism=strategy, checkpoint_every_seconds=0.0)
    began = time.monotonic()
    job = disturbed.torchrun(first, 2, FEDERATION_FAILPOINTS="job.rank-mid-window=kill@8")
    assert job.wait(timeout=BOUND_SECONDS) != 0
    assert time.monotonic() - began < BOUND_SECONDS
    last_word = ended(first)
    assert last_word is None or last_word.code is EndCode.FAILED
    second = disturbed.run_job("a2", 2, parallelism=strategy)
    assert payloads(first, second) == expected


def test_a_signal_ends_all_ranks_and_any_number_of_ranks_goes_on(tmp_path: Path) -> None:
    site = Site(tmp_path)
    first = site.allocate("a1", parallelism="fsdp", max_idle_seconds=600.0)
    job = site.torchrun(first, 2)
    wait_for(lambda: first.exists(A.update(NUM_ROUNDS - 1)) or job.poll() is not None)
    job.send_signal(signal.SIGTERM)
    job.wait(timeout=BOUND_SECONDS)
    last_word = ended(first)
    assert last_word is not None, log_of(first)
    assert last_word.code is EndCode.TERMINATED
    state = saved(site)
    for name, size in (("a2", 3), ("a3", 1)):
        fs = site.run_job(name, size, parallelism="fsdp")
        assert f"resumed after {state.progress.num_steps} inner steps" in log_of(fs)


def test_the_report_of_the_machines_and_the_tokens_of_all_ranks(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fs = site.run_job("a1", 2)
    report = read_record(fs, PREFLIGHT_FILE, PreflightReport)
    assert report is not None
    assert report.ok
    assert (report.world_size, len(report.hosts), [r.device for r in report.ranks]) == (2, 1, [DeviceKind.CPU] * 2)
    assert report.network["GLOO_SOCKET_IFNAME"] == "lo"
    assert "preflight: 2 rank(s)" in log_of(fs)
    lines = list(read_metrics(site.run.read(RunPaths().metrics)))
    assert {line["tokens"] for line in lines} == {6 * 16}
    assert [line["num_steps"] for line in lines] == list(range(1, 3 * NUM_ROUNDS + 1))


def test_a_batch_that_cannot_be_divided_is_said(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fs = site.allocate("a1")
    assert site.torchrun(fs, 4).wait(timeout=BOUND_SECONDS) != 0
    last_word = ended(fs)
    assert last_word is not None
    assert "expected a multiple of the 4 ranks of this job, found 6" in last_word.sentence
    report = read_record(fs, A.report, JobReport)
    assert report is not None
    assert "multiple of the 4 ranks" in report.error


def saved(site: Site) -> SavedLoop:
    loaded = TrainingCheckpoints(site.run).load(SavedLoop)
    assert loaded is not None
    record, parts = loaded
    assert {name.partition(".")[2] for name in parts["trainer"] if ".exp_avg" in name}
    return record
