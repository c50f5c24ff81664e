# SPDX-License-Identifier: Apache-2.0
"""Processes of the command trainer send what the oracle sends, killed or not; bad work ends with a reason."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_bench import NUM_ROUNDS, TOY, A, CommandAllocation, CommandBench, check_sent

from site_agent.jobs import EndCode, JobPhase, JobReport, StopOrder, read_record, write_record

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> CommandBench:
    return CommandBench(tmp_path_factory.mktemp("command"))


def wait_for(condition: Callable[[], object], seconds: float = 100) -> None:
    """Until the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not reached in time"
        time.sleep(0.02)


def test_whole_windows_equal_the_oracles(bench: CommandBench, tmp_path: Path) -> None:
    allocation = CommandAllocation(bench, tmp_path / "run", "a1")
    code, errors = allocation.run_job()
    assert code == 0, errors
    assert allocation.ended().code is EndCode.IDLE
    check_sent(bench, allocation)
    versions = sorted(path.name for path in (tmp_path / "run" / "command" / "state").iterdir())
    assert versions == ["2", "3", "4"]
    assert not list((tmp_path / "run" / "command").glob("work-*"))
    report = read_record(allocation.fs, A.report, JobReport)
    assert report is not None
    assert "{'lr': 0.5}" in errors


FAILPOINTS = (
    "job.before-command@2",
    "job.after-command@2",
    "job.after-training-checkpoint",
    "job.after-publish",
    "job.before-merge",
)


def test_killed_everywhere_and_resumed_it_sends_the_same(bench: CommandBench, tmp_path: Path) -> None:
    allocations = [CommandAllocation(bench, tmp_path / "run", name) for name in ("a1", "a2")]
    for index, failpoint in enumerate(FAILPOINTS):
        name, _, hit = failpoint.partition("@")
        code, errors = allocations[index // 3].run_job(f"{name}=kill@{hit or 1}")
        assert code == -signal.SIGKILL, f"{failpoint}: {errors}"
    code, errors = allocations[1].run_job()
    assert code == 0, errors
    check_sent(bench, *allocations)


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_job_takes_its_executable_along(bench: CommandBench, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    slow = (*TOY, "--pause=0.5", f"--count={starts}")
    first = CommandAllocation(bench, tmp_path / "run", "a1", slow)
    process = first.start()
    assert process.pid is not None
    wait_for(starts.exists)
    guard = children_of(process.pid)
    executable = [child for parent in guard for child in children_of(parent)]
    assert executable
    os.kill(process.pid, signal.SIGKILL)
    process.join(timeout=60)
    wait_for(lambda: not any(map(alive, (*guard, *executable))))
    second = CommandAllocation(bench, tmp_path / "run", "a2")
    code, errors = second.run_job()
    assert code == 0, errors
    check_sent(bench, second)


@pytest.mark.parametrize(("option", "goes_on"), [("--early-end", True), ("--plain", False)])
def test_asked_to_end_it_is_gone_on_with_or_run_again(
    bench: CommandBench, tmp_path: Path, option: str, goes_on: bool
) -> None:
    steps = tmp_path / "steps"
    first = CommandAllocation(bench, tmp_path / "run", "a1", (*TOY, "--pause=0.4", f"--steps={steps}", option))
    process = first.start()
    wait_for(lambda: steps.exists() and len(steps.read_text()) == 4)  # the first step of the second window
    process.terminate()
    process.join(timeout=60)
    assert process.exitcode == 0, first.errors()
    assert first.ended().code is EndCode.TERMINATED
    assert ("to be continued" in first.errors()) is goes_on
    assert ("its window is run again" in first.errors()) is not goes_on
    second = CommandAllocation(bench, tmp_path / "run", "a2")
    code, errors = second.run_job()
    assert code == 0, errors
    check_sent(bench, first, second)


def test_a_stop_order_ends_it_too(bench: CommandBench, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    first = CommandAllocation(bench, tmp_path / "run", "a1", (*TOY, "--pause=0.5", f"--count={starts}"))
    process = first.start()
    wait_for(starts.exists)
    write_record(first.fs, A.stop, StopOrder(reason="paused"))
    process.join(timeout=60)
    assert process.exitcode == 0
    assert first.ended().code is EndCode.STOPPED
    second = CommandAllocation(bench, tmp_path / "run", "a2")
    assert second.run_job()[0] == 0
    check_sent(bench, first, second)


def test_a_long_window_is_reported_as_training_all_the_time(bench: CommandBench, tmp_path: Path) -> None:
    allocation = CommandAllocation(bench, tmp_path / "run", "a1", (*TOY, "--pause=1.0"), max_idle_seconds=0.2)
    process = allocation.start()
    seen: list[float] = []

    def reported() -> bool:
        report = read_record(allocation.fs, A.report, JobReport)
        if report is not None and report.phase is JobPhase.TRAINING and report.updated_at not in seen:
            seen.append(report.updated_at)
        return len(seen) >= 4

    wait_for(reported)
    assert not allocation.updates()
    process.terminate()
    process.join(timeout=60)


def test_a_window_that_does_not_fit_is_not_begun(bench: CommandBench, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    command = (*TOY, "--pause=2.0", f"--count={starts}")
    first = CommandAllocation(bench, tmp_path / "run", "a1", command, seconds_limit=24)
    code, errors = first.run_job()
    assert code == 0, errors
    assert first.ended().code is EndCode.WALL_TIME
    assert "takes about" in first.ended().sentence
    assert 1 <= len(starts.read_text()) < NUM_ROUNDS
    assert len(first.updates()) == len(starts.read_text())
    second = CommandAllocation(bench, tmp_path / "run", "a2")
    assert second.run_job()[0] == 0
    check_sent(bench, first, second)


BAD = [
    ("exit-1", EndCode.FAILED, "found exit status 1"),
    ("killed", EndCode.FAILED, "found killed by SIGKILL"),
    ("no-result", EndCode.FAILED, "result.json: expected the executable to leave this file"),
    ("nan-loss", EndCode.NON_FINITE, "expected a finite loss, found nan"),
    ("nan-weights", EndCode.NON_FINITE, "expected finite weights, found 1 NaN or infinite elements in embed"),
    ("bf16", EndCode.MODEL_DIFFERS, "expected fp32 tensors in one whole safetensors file, found dtype BF16"),
    ("state-link", EndCode.FAILED, "state directory: expected plain files and directories, found a link"),
]


@pytest.mark.parametrize(("mode", "code", "sentence"), BAD, ids=[mode for mode, _, _ in BAD])
def test_bad_work_ends_with_a_reason_and_nothing_is_sent(
    bench: CommandBench, tmp_path: Path, mode: str, code: EndCode, sentence: str
) -> None:
    allocation = CommandAllocation(bench, tmp_path / "run", "a1", (*TOY, f"--mode={mode}"))
    status, errors = allocation.run_job()
    assert status == 1, errors
    ended = allocation.ended()
    assert ended.code is code
    assert sentence in ended.sentence
    assert ended.sentence in errors[-len(ended.sentence) - 2 :], "the reason is the log's last line"
    assert "Traceback" not in errors
    assert "SECRET-CANARY" not in ended.sentence
    assert str(tmp_path) not in ended.sentence
    assert not allocation.updates()
    report = read_record(allocation.fs, A.report, JobReport)
    assert report is not None
    assert sentence in report.error


def test_what_a_failing_executable_printed_is_in_the_log(bench: CommandBench, tmp_path: Path) -> None:
    allocation = CommandAllocation(bench, tmp_path / "run", "a1", (*TOY, "--mode=exit-1"))
    _, errors = allocation.run_job()
    assert "SECRET-CANARY on stderr" in errors


def test_after_bad_work_the_successor_starts_from_the_windows_begin(bench: CommandBench, tmp_path: Path) -> None:
    first = CommandAllocation(bench, tmp_path / "run", "a1", (*TOY, "--mode=nan-weights"))
    assert first.run_job()[0] == 1
    second = CommandAllocation(bench, tmp_path / "run", "a2")
    code, errors = second.run_job()
    assert code == 0, errors
    check_sent(bench, second)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ((), "expected the command that it runs, found none"),
        (("/nowhere/at-all",), "expected an executable that can be started, found none"),
        (("/etc/passwd",), "expected an executable that can be started, found none"),
    ],
    ids=["none", "missing", "not-executable"],
)
def test_a_command_that_cannot_be_started(
    bench: CommandBench, tmp_path: Path, command: tuple[str, ...], sentence: str
) -> None:
    allocation = CommandAllocation(bench, tmp_path / "run", "a1", command)
    status, errors = allocation.run_job()
    assert status == 1, errors
    assert sentence in allocation.ended().sentence


def test_a_run_that_merges_inside_windows_is_refused_before_training(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    bench = CommandBench(tmp_path / "bench", tau=1)
    allocation = CommandAllocation(bench, tmp_path / "run", "a1", (*TOY, f"--count={starts}"))
    status, errors = allocation.run_job()
    assert status == 1, errors
    assert "merges nothing inside a window" in allocation.ended().sentence
    assert not starts.exists()


def test_a_merge_at_a_later_windows_end_is_served(tmp_path: Path) -> None:
    bench = CommandBench(tmp_path / "bench", tau=3)
    allocation = CommandAllocation(bench, tmp_path / "run", "a1")
    code, errors = allocation.run_job()
    assert code == 0, errors
    check_sent(bench, allocation)


def test_the_executable_sees_neither_secrets_nor_ranks(bench: CommandBench, tmp_path: Path) -> None:
    out = tmp_path / "environment"
    allocation = CommandAllocation(bench, tmp_path / "run", "a1", ("/bin/sh", "-c", f"env > {out}; exit 3"))
    status, errors = allocation.run_job()
    assert status == 1, errors
    found = out.read_text()
    assert "SECRET-CANARY" not in found
    assert "FEDERATION_FAILPOINTS" not in found
    assert "\nRANK=" not in found
    assert "FEDERATION_WORK_ORDER=" in found
