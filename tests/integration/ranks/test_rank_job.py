# SPDX-License-Identifier: Apache-2.0
"""The reference trainer under torchrun: killed, asked to end, and resumed on another number of ranks."""

import signal
import time
from pathlib import Path

import pytest
from rank_bench.job import NUM_ROUNDS, Site, ended, log_of, payloads
from rank_bench.start import wait_all, wait_for

from federation.durable.real import RealFileSystem
from site_agent.failures import code_of_error
from site_agent.inner_loop.preflight import PREFLIGHT_FILE, DeviceKind, PreflightReport
from site_agent.inner_loop.progress import SavedLoop
from site_agent.jobs import AllocationPaths, EndCode, JobReport, RunPaths, read_record
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.metrics import read_metrics

pytestmark = pytest.mark.processes

BOUND_SECONDS = 150
"""Far below the 600 seconds after which silence counts; torchrun's own ranks import torch meanwhile."""
A = AllocationPaths()


KILLED = {"FEDERATION_FAILPOINTS": "job.rank-mid-window=kill@8"}


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
    if strategy == "ddp":
        assert wait_all([disturbed.torchrun(first, 2, **KILLED)], BOUND_SECONDS) != [0]
    else:
        assert wait_all(disturbed.start(first, 2, {1: KILLED}), BOUND_SECONDS) == [1, -signal.SIGKILL]
    assert time.monotonic() - began < BOUND_SECONDS
    names_the_lost_rank(first)
    second = disturbed.run_job("a2", 2, parallelism=strategy)
    assert payloads(first, second) == expected


def names_the_lost_rank(fs: RealFileSystem) -> None:
    """In the last word, under a code of its own, and at the end of what rank 0 says."""
    last_word = ended(fs)
    assert last_word is not None, log_of(fs)
    assert last_word.code is EndCode.FAILED
    assert code_of_error(last_word.code.value, last_word.reason, last_word.sentence) == "rank-lost"
    assert last_word.sentence.startswith("rank 0: expected answers of all 2 ranks, found rank 1 gone (")
    assert last_word.sentence in log_of(fs)


def test_where_rank_0_is_lost_the_next_one_has_the_last_word(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fs = site.allocate("a1")
    leader = {"FEDERATION_FAILPOINTS": "job.mid-window=kill@2"}
    assert wait_all(site.start(fs, 3, {0: leader}), BOUND_SECONDS) == [-signal.SIGKILL, 1, 1], log_of(fs)
    last_word = ended(fs)
    assert last_word is not None, log_of(fs)
    assert code_of_error(last_word.code.value, last_word.reason, last_word.sentence) == "rank-lost"
    assert last_word.sentence.startswith("rank 1: expected answers of all 3 ranks, found rank 0 gone (")
    assert last_word.fencing == 1


def test_a_signal_ends_all_ranks_and_any_number_of_ranks_goes_on(tmp_path: Path) -> None:
    site = Site(tmp_path)
    first = site.allocate("a1", parallelism="fsdp", max_idle_seconds=600.0)
    job = site.torchrun(first, 2)
    wait_for(lambda: first.exists(A.update(NUM_ROUNDS - 1)) or not job.is_alive())
    job.terminate()
    wait_all([job], BOUND_SECONDS)
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
    assert wait_all(site.start(fs, 4), BOUND_SECONDS) == [1] * 4
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
