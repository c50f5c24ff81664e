# SPDX-License-Identifier: Apache-2.0
"""The four commands: their output as rows, and which failures are certain."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from federation.errors import ConfigError, DeadlineExceededError, LaunchFailedError, PeerUnavailableError
from site_agent.launcher.slurm.commands import (
    AccountRow,
    Completed,
    QueueRow,
    SlurmCommands,
    command_environment,
    run_command,
)


def commands(status: int = 0, out: str = "", err: str = "") -> tuple[SlurmCommands, list[list[str]]]:
    calls: list[list[str]] = []

    def run(argv: Sequence[str], timeout_seconds: float) -> Completed:
        calls.append([*argv, f"within {timeout_seconds:g}"])
        return Completed(status=status, out=out, err=err)

    return SlurmCommands(timeout_seconds=5, run=run), calls


def test_the_queue() -> None:
    found, calls = commands(out="7|PENDING|Resources|2|N/A|federation-x|y\n8_1|PENDING|None|0|N/A|array\nwarning\n")
    assert found.queue() == [QueueRow(job="7", state="PENDING", reason="Resources", restarts=2, name="federation-x|y")]
    assert calls[0][0] == "squeue"
    assert "--states=all" in calls[0]
    assert calls[0][-1] == "within 5"


def test_the_accounting() -> None:
    out = "7|CANCELLED by 7|0:15|61|2|cpu=4,gres/gpu=8,gres/gpu:mi250=8,node=2|n\n7.batch|COMPLETED|0:0|1|1||b\n"
    found, _ = commands(out=out)
    expected = AccountRow(
        job="7", state="CANCELLED", exit_code="0:15", elapsed_seconds=61, num_nodes=2, num_gpus=8, name="n",
        over_seconds=61, num_over=1,
    )  # fmt: skip
    assert found.accounts(["7"]) == [expected]
    assert found.accounts_named("n") == [expected]


def test_what_a_requeued_job_has_used_already() -> None:
    out = "7|NODE_FAIL|0:0|60|1|gres/gpu=4|n\n7|REQUEUED|0:0|5|1|gres/gpu=4|n\n7|RUNNING|0:0|30|1|gres/gpu=4|n\n"
    found, _ = commands(out=out)
    [row] = found.accounts(["7"])
    assert (row.elapsed_seconds, row.over_seconds, row.num_over, row.state) == (95, 65, 2, "RUNNING")


def test_a_list_by_ids_has_no_begin_and_one_by_name_has() -> None:
    found, calls = commands()
    found.accounts(["1", "2"])
    found.accounts_named("n")
    assert "--jobs=1,2" in calls[0]
    assert not any(word.startswith("--starttime") for word in calls[0])
    assert {"--name=n", "--starttime=now-7days"} <= set(calls[1])


@pytest.mark.parametrize(("out", "expected"), [("4711\n", ("4711", "")), ("4711;lumi\n", ("4711", "lumi"))])
def test_a_submission(out: str, expected: tuple[str, str]) -> None:
    assert commands(out=out)[0].submit(Path("job.sbatch")) == expected


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("sbatch: error: invalid partition specified: nope", "unknown-partition"),
        ("Batch job submission failed: Invalid account or account/partition combination specified", "unknown-account"),
        ("Batch job submission failed: Invalid qos specification", "unknown-qos"),
        ("Batch job submission failed: Requested reservation is invalid", "unknown-reservation"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "wall-time-limit"),
        ("Batch job submission failed: Job violates accounting/QOS policy (job submit limit, …)", "limit-exceeded"),
        ("Batch job submission failed: Requested node configuration is not available", "resources-unavailable"),
        ("sbatch: unrecognized option '--nope'", "options-refused"),
    ],
)
def test_a_certain_no_has_a_code(words: str, code: str) -> None:
    with pytest.raises(LaunchFailedError, match="expected") as raised:
        commands(status=1, err=words)[0].submit(Path("job.sbatch"))
    assert raised.value.code == code
    assert raised.value.advice


@pytest.mark.parametrize(
    ("status", "out", "err"),
    [
        (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"),
        (1, "", "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"),
        (0, "what?", ""),
        (0, "", "sbatch: error: invalid partition"),
        (137, "", ""),
    ],
)
def test_any_other_failure_may_have_left_a_job(status: int, out: str, err: str) -> None:
    with pytest.raises(PeerUnavailableError, match="expected a job id"):
        commands(status=status, out=out, err=err)[0].submit(Path("job.sbatch"))


def test_lists_that_failed_are_no_empty_lists() -> None:
    broken, _ = commands(status=1, err="slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(PeerUnavailableError, match="squeue: expected a list"):
        broken.queue()
    with pytest.raises(PeerUnavailableError, match="sacct: expected a list"):
        broken.accounts(["1"])
    complaining, _ = commands(err="sacct: error: slurm_persist_conn_open: failed to send persistent connection init")
    with pytest.raises(PeerUnavailableError, match="sacct"):
        complaining.accounts(["1"])


def test_to_cancel_what_is_gone_is_no_failure() -> None:
    commands(status=1, err="scancel: error: Kill job error on job id 7: Invalid job id specified")[0].cancel("7")
    with pytest.raises(PeerUnavailableError, match="scancel"):
        commands(status=1, err="scancel: error: Unable to contact slurm controller")[0].cancel("7")


@pytest.mark.parametrize(("out", "expected"), [("slurm-wlm 22.05.8\n", (22, 5, 8)), ("slurm 24.11.5-1\n", (24, 11))])
def test_the_version(out: str, expected: tuple[int, ...]) -> None:
    assert commands(out=out)[0].version()[: len(expected)] == expected


def test_a_version_that_cannot_be_read() -> None:
    with pytest.raises(PeerUnavailableError, match="expected a version"):
        commands(out="oops")[0].version()


def test_a_command_that_hangs_or_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceededError, match=r"within 0\.05 s"):
        run_command(["sleep", "10"], 0.05)
    with pytest.raises(ConfigError, match="expected a command that runs"):
        run_command([str(tmp_path / "sbatch")], 1)


def test_the_users_own_settings_of_slurm_do_not_reach_the_commands() -> None:
    given = {"PATH": "/bin", "SBATCH_PARTITION": "x", "SLURM_JOB_ID": "7", "SLURM_CONF": "/c", "SQUEUE_FORMAT": "%i"}
    assert command_environment(given) == {
        "PATH": "/bin", "SLURM_CONF": "/c", "LC_ALL": "C", "SLURM_TIME_FORMAT": "standard",
    }  # fmt: skip
