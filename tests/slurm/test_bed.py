# SPDX-License-Identifier: Apache-2.0
"""Facts of a real Slurm that the launcher rests on; each was found by trying, and some are not in the manual."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from slurm_bed import SlurmBed, SlurmBedError

SECONDS = 30.0
LAG_SECONDS = 15.0
"""Within this the database knows what the controller knows; slurmctld tells it every five seconds."""

STEP = """import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print('step TERM', flush=True), sys.exit(0)))
print('step up', flush=True)
time.sleep(300)
"""


def wait_for_state(slurm: SlurmBed, job: str, *states: str, seconds: float = SECONDS) -> None:
    slurm.wait_for(lambda: slurm.state(job) in states, seconds, f"job {job} {' or '.join(states)}")


def wait_for_accounts(slurm: SlurmBed, job: str, *states: str) -> None:
    def told() -> bool:
        return [row[1] for row in slurm.accounted("--jobs", job, "--duplicates")] == list(states)

    slurm.wait_for(told, LAG_SECONDS, f"job {job} in sacct as {states}")


def refused(slurm: SlurmBed, *options: str) -> str:
    with pytest.raises(SlurmBedError) as caught:
        slurm.submit("true", *options)
    return str(caught.value).split("sbatch: error: ")[-1]


def step_script(directory: Path) -> Path:
    """A program that says so when it gets TERM, and then ends with 0."""
    path = directory / "step.py"
    path.write_text(STEP)
    return path


def wait_for_text(slurm: SlurmBed, path: Path, text: str, *, seconds: float = SECONDS) -> None:
    slurm.wait_for(lambda: path.exists() and text in path.read_text(), seconds, f"{text!r} in {path.name}")


# --- submission and accounting


def test_a_job_ends_as_completed_in_squeue_and_sacct(slurm: SlurmBed) -> None:
    job = slurm.submit("sleep 1", "--job-name=short-one", "--gpus-per-node=2")
    wait_for_state(slurm, job, "COMPLETED")
    slurm.wait_for(lambda: slurm.accounted("--name=short-one"), LAG_SECONDS, "the name in sacct")
    fields = "JobIDRaw,JobName,State,ExitCode,AllocTRES,NNodes"
    (row,) = slurm.accounted("--jobs", job, fields=fields)
    assert row == [job, "short-one", "COMPLETED", "0:0", "billing=1,cpu=1,gres/gpu=2,node=1", "1"]
    assert int(slurm.accounted("--jobs", job, fields="ElapsedRaw")[0][0]) >= 1


def test_sacct_does_not_know_a_new_job_by_its_name_although_the_job_runs(slurm: SlurmBed) -> None:
    slurm.submit("true")  # slurmctld tells names every five seconds: begin right after it did
    slurm.wait_for(lambda: slurm.accounted("--name=sbatch"), LAG_SECONDS, "a name in sacct")
    job = slurm.submit("sleep 60", "--job-name=a-name")
    wait_for_state(slurm, job, "RUNNING")
    assert slurm.accounted("--name=a-name") == []
    assert slurm.accounted("--jobs", job, fields="JobName") in ([], [["allocation"]])
    assert slurm.run(["squeue", "--noheader", "--name=a-name", "--format=%i"]).stdout.strip() == job
    slurm.wait_for(lambda: slurm.accounted("--name=a-name") == [[job, "RUNNING"]], LAG_SECONDS, "the name in sacct")


def test_sacct_finds_a_job_that_never_was_eligible_by_its_id_only(slurm: SlurmBed) -> None:
    held = slurm.submit("true", "--job-name=same", "--hold")
    later = slurm.submit("true", "--job-name=later", "--begin=now+1hour")
    second = slurm.submit("true", "--job-name=same", "--dependency=singleton")
    control = slurm.submit("true", "--job-name=control")
    slurm.wait_for(lambda: slurm.accounted("--name=control"), LAG_SECONDS, "a later job in sacct")
    assert slurm.accounted("--name=same,later", "--starttime=2020-01-01") == []
    assert slurm.accounted("--name=same,later", "--starttime=2020-01-01", "--state=PENDING") == []
    assert slurm.accounted("--name=same,later", "--endtime=now+2hours") == [[later, "PENDING"]]
    known = slurm.accounted("--jobs", f"{held},{later},{second}")
    assert sorted(known) == sorted([job, "PENDING"] for job in (held, later, second))
    assert {job: (slurm.state(job), slurm.reason(job)) for job in (held, later, second)} == {
        held: ("PENDING", "JobHeldUser"),
        later: ("PENDING", "BeginTime"),
        second: ("PENDING", "Dependency"),  # singleton: a held job of that name is waited for, too
    }
    assert slurm.state(control) == "COMPLETED"
    # Nor is its end found by its name.
    slurm.cancel(held)
    wait_for_accounts(slurm, held, "CANCELLED by 0")
    assert slurm.accounted("--jobs", held, fields="Eligible,Start,ElapsedRaw") == [["Unknown", "None", "0"]]
    assert [held] not in slurm.accounted("--name=same", fields="JobID")


def test_singleton_lets_one_of_a_name_run_at_a_time(slurm: SlurmBed) -> None:
    first = slurm.submit("sleep 60", "--job-name=one-at-a-time", "--dependency=singleton")
    second = slurm.submit("true", "--job-name=one-at-a-time", "--dependency=singleton")
    other = slurm.submit("true", "--job-name=another", "--dependency=singleton")
    wait_for_state(slurm, first, "RUNNING")
    wait_for_state(slurm, other, "COMPLETED")
    assert (slurm.state(second), slurm.reason(second)) == ("PENDING", "Dependency")
    slurm.cancel(first)
    wait_for_state(slurm, second, "COMPLETED")


def test_a_pending_job_that_is_eligible_is_in_sacct(slurm: SlurmBed) -> None:
    slurm.drain_node()
    job = slurm.submit("true")
    wait_for_accounts(slurm, job, "PENDING")
    assert "ReqNodeNotAvail" in slurm.reason(job) or "DRAINED" in slurm.reason(job)
    slurm.resume_node()
    wait_for_state(slurm, job, "COMPLETED")


# --- refusals


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--partition=nope"], "Invalid partition name specified"),
        (["--account=nope"], "Invalid account or account/partition combination specified"),
        (["--qos=nope"], "Invalid qos specification"),
        (["--reservation=nope"], "Requested reservation is invalid"),
        (["--time=2:00:00"], "Requested time limit is invalid (missing or exceeds some limit)"),
        (["--partition=short", "--time=5"], "Requested time limit is invalid (missing or exceeds some limit)"),
        (["--nodes=2"], "Node count specification invalid"),
        (["--gpus-per-node=8"], "Requested node configuration is not available"),
    ],
)
def test_what_cannot_run_is_refused_with_status_1(slurm: SlurmBed, options: list[str], sentence: str) -> None:
    assert refused(slurm, *options) == f"Batch job submission failed: {sentence}"


def test_an_unknown_option_ends_with_status_255(slurm: SlurmBed) -> None:
    result = slurm.run(["sbatch", "--bogus"], check=False)
    assert (result.returncode, result.stderr.splitlines()[0]) == (255, "sbatch: unrecognized option '--bogus'")


def test_an_account_without_budget_is_accepted_and_then_waits(slurm: SlurmBed) -> None:
    job = slurm.submit("true", "--account", slurm.empty_account)
    slurm.wait_for(lambda: slurm.reason(job) == "AssocGrpCPUMinutesLimit", SECONDS, "the reason")
    assert slurm.state(job) == "PENDING"
    wait_for_accounts(slurm, job, "PENDING")
    assert slurm.accounted("--jobs", job, fields="Reason") == [["AssocGrpCPUMinutesLimit"]]


# --- questions about what is not there


def test_squeue_fails_for_one_unknown_id_and_is_silent_for_two(slurm: SlurmBed) -> None:
    one = slurm.run(["squeue", "--noheader", "--jobs=999999"], check=False)
    assert (one.returncode, one.stdout, one.stderr) == (1, "", "slurm_load_jobs error: Invalid job id specified\n")
    two = slurm.run(["squeue", "--noheader", "--jobs=999998,999999"], check=False)
    assert (two.returncode, two.stdout, two.stderr) == (0, "", "")
    name = slurm.run(["squeue", "--noheader", "--name=nobody"], check=False)
    assert (name.returncode, name.stdout) == (0, "")


def test_squeue_shows_an_ended_job_only_with_states_all(slurm: SlurmBed) -> None:
    job = slurm.submit("true")
    wait_for_state(slurm, job, "COMPLETED")
    result = slurm.run(["squeue", "--noheader", "--jobs", job], check=False)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("options", [["--jobs=999999"], ["--name=nobody"]])
def test_sacct_answers_nothing_with_status_0_for_an_unknown_job(slurm: SlurmBed, options: list[str]) -> None:
    assert slurm.accounted(*options) == []


def test_scancel_says_nothing_of_an_unknown_or_ended_job(slurm: SlurmBed) -> None:
    job = slurm.submit("true")
    wait_for_state(slurm, job, "COMPLETED")
    for number in (job, "999999"):
        result = slurm.run(["scancel", number], check=False)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_scontrol_fails_for_an_unknown_job(slurm: SlurmBed) -> None:
    show = slurm.run(["scontrol", "show", "job", "999999"], check=False)
    assert (show.returncode, show.stderr) == (1, "slurm_load_jobs error: Invalid job id specified\n")
    requeue = slurm.run(["scontrol", "requeue", "999999"], check=False)
    assert (requeue.returncode, requeue.stderr) == (1, "Invalid job id specified for job 999999\n")


# --- parts of Slurm away


def test_without_accounting_sacct_fails_and_jobs_go_on(slurm: SlurmBed) -> None:
    slurm.stop_accounting()
    result = slurm.run(["sacct", "--noheader"], check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "sacct: error: Problem talking to the database: Connection refused"
    job = slurm.submit("true", "--job-name=in-the-dark")
    wait_for_state(slurm, job, "COMPLETED")
    slurm.start_accounting()
    slurm.wait_for(lambda: slurm.accounted("--name=in-the-dark"), SECONDS, "the job in sacct after all")


def test_without_controller_every_command_but_sacct_fails(slurm: SlurmBed) -> None:
    job = slurm.submit("sleep 60", "--job-name=goes-on")
    slurm.wait_for(lambda: slurm.accounted("--name=goes-on"), LAG_SECONDS, "the job in sacct")
    slurm.stop_controller()
    said = "Unable to contact slurm controller (connect failure)"
    with ThreadPoolExecutor() as pool:  # each tries for seconds
        ask = partial(pool.submit, slurm.run, check=False)
        asked = [
            ask(["squeue", "--noheader"]),
            ask(["sbatch", "--parsable"], input="#!/bin/sh\n"),
            ask(["scancel", job]),
        ]
        queue, batch, cancel = (each.result() for each in asked)
    assert (queue.returncode, queue.stderr) == (1, f"slurm_load_jobs error: {said}\n")
    assert (batch.returncode, batch.stdout) == (1, "")
    assert batch.stderr == f"sbatch: error: Batch job submission failed: {said}\n"
    assert cancel.returncode != 0
    assert said in cancel.stderr
    assert slurm.accounted("--jobs", job) == [[job, "RUNNING"]]
    slurm.start_controller()
    wait_for_state(slurm, job, "RUNNING")


# --- signals, requeue, failures


def test_a_signal_without_batch_reaches_steps_only(slurm: SlurmBed, tmp_path: Path) -> None:
    program = f"python3 {step_script(tmp_path)}"
    plain = slurm.submit(f"exec {program}", f"--output={tmp_path}/plain")
    step = slurm.submit(f"trap 'echo shell TERM' TERM\nsrun {program}", f"--output={tmp_path}/step")
    for name in ("plain", "step"):
        wait_for_text(slurm, tmp_path / name, "step up")
    slurm.cancel(plain, "--signal=TERM")
    slurm.cancel(step, "--signal=TERM")
    wait_for_state(slurm, step, "COMPLETED")
    assert "step TERM" in (tmp_path / "step").read_text()
    assert "shell TERM" not in (tmp_path / "step").read_text()
    assert slurm.state(plain) == "RUNNING"
    assert "step TERM" not in (tmp_path / "plain").read_text()
    slurm.cancel(plain, "--batch", "--signal=TERM")
    wait_for_text(slurm, tmp_path / "plain", "step TERM")


def test_scancel_gives_term_to_everything_and_kill_later(slurm: SlurmBed, tmp_path: Path) -> None:
    program = step_script(tmp_path)
    plain = slurm.submit(f"exec python3 {program}", f"--output={tmp_path}/plain")
    deaf = slurm.submit("trap '' TERM\nsleep 300", "--job-name=deaf")
    wait_for_text(slurm, tmp_path / "plain", "step up")
    wait_for_state(slurm, deaf, "RUNNING")
    slurm.cancel(plain)
    slurm.cancel(deaf)
    wait_for_state(slurm, plain, "CANCELLED")
    wait_for_state(slurm, deaf, "CANCELLED")
    assert "step TERM" in (tmp_path / "plain").read_text()
    wait_for_accounts(slurm, deaf, "CANCELLED by 0")


@pytest.mark.timeout(240)
def test_at_the_wall_time_the_early_signal_reaches_steps_only(slurm: SlurmBed, tmp_path: Path) -> None:
    program = f"python3 {step_script(tmp_path)}"
    early = ("--time=1", "--signal=TERM@10")  # which comes half a minute early, but not before a step is up
    plain = slurm.submit(f"exec {program}", *early, f"--output={tmp_path}/plain")
    step = slurm.submit(f"srun {program}\necho after $?", *early, f"--output={tmp_path}/step")
    shell = slurm.submit(
        f"trap 'echo shell TERM; exit 5' TERM\nsrun {program} & wait",
        *("--time=1", "--signal=B:TERM@10", f"--output={tmp_path}/shell"),
    )
    wait_for_state(slurm, step, "COMPLETED", seconds=90.0)
    wait_for_text(slurm, tmp_path / "step", "after 0")
    wait_for_state(slurm, shell, "FAILED", seconds=90.0)
    assert "shell TERM" in (tmp_path / "shell").read_text()
    assert slurm.state(plain) == "RUNNING"
    # Without srun the first that it hears is the TERM of the end itself, KillWait before the KILL.
    wait_for_state(slurm, plain, "TIMEOUT", seconds=120.0)
    assert "step TERM" in (tmp_path / "plain").read_text()
    wait_for_accounts(slurm, plain, "TIMEOUT")
    assert slurm.accounted("--jobs", plain, fields="ExitCode") == [["0:0"]]
    assert int(slurm.accounted("--jobs", plain, fields="ElapsedRaw")[0][0]) >= 60


def test_a_requeued_job_keeps_its_id_and_counts_its_restarts(slurm: SlurmBed, tmp_path: Path) -> None:
    output = tmp_path / "out"
    script = "echo start=$SLURM_RESTART_COUNT.\nexec sleep 300"
    job = slurm.submit(script, "--job-name=again", "--open-mode=append", f"--output={output}")
    wait_for_text(slurm, output, "start=.\n")  # the first execution has no such variable
    slurm.wait_for(lambda: slurm.accounted("--name=again"), LAG_SECONDS, "the job in sacct")
    slurm.requeue(job)
    wait_for_state(slurm, job, "PENDING")
    assert slurm.reason(job) == "BeginTime"  # until the credential of the first start has expired: 120 s by default
    wait_for_accounts(slurm, job, "REQUEUED")  # not PENDING: again "not eligible", so unknown
    wait_for_text(slurm, output, "start=1.\n")
    wait_for_accounts(slurm, job, "REQUEUED", "RUNNING")
    assert slurm.accounted("--jobs", job) == [[job, "RUNNING"]]  # without --duplicates the last execution only


def test_a_completed_job_can_be_requeued(slurm: SlurmBed) -> None:
    job = slurm.submit("true")
    wait_for_state(slurm, job, "COMPLETED")
    slurm.requeue(job)
    assert slurm.state(job) == "PENDING"
    wait_for_state(slurm, job, "COMPLETED")
    shown = slurm.run(["scontrol", "show", "job", job]).stdout
    assert re.search(r"Restarts=1\b", shown)


def test_no_requeue_and_pending_jobs_are_not_requeued(slurm: SlurmBed) -> None:
    fixed = slurm.submit("sleep 300", "--no-requeue")
    held = slurm.submit("true", "--hold")
    wait_for_state(slurm, fixed, "RUNNING")
    result = slurm.run(["scontrol", "requeue", fixed], check=False)
    assert (result.returncode, result.stderr) == (1, f"Requested operation is presently disabled for job {fixed}\n")
    assert slurm.run(["scontrol", "requeue", held], check=False).returncode == 1


def test_jobs_of_a_failed_node_are_requeued_or_end_with_node_fail(slurm: SlurmBed, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ("--open-mode=append", f"--output={output}")
    again = slurm.submit("echo start=$SLURM_RESTART_COUNT.\nexec sleep 300", *options)
    once = slurm.submit("sleep 300", "--no-requeue")
    wait_for_text(slurm, output, "start=.")
    wait_for_state(slurm, once, "RUNNING")
    slurm.fail_node()
    wait_for_state(slurm, again, "PENDING")
    wait_for_state(slurm, once, "NODE_FAIL")
    wait_for_accounts(slurm, once, "NODE_FAIL")
    wait_for_accounts(slurm, again, "NODE_FAIL")
    slurm.resume_node()
    wait_for_text(slurm, output, "start=1.", seconds=60.0)
    wait_for_accounts(slurm, again, "NODE_FAIL", "RUNNING")


def test_a_preempted_job_waits_again_and_goes_on(slurm: SlurmBed, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ("--open-mode=append", f"--output={output}", "--cpus-per-task=4")
    low = slurm.submit("echo start=$SLURM_RESTART_COUNT.\nexec sleep 300", *options)
    wait_for_text(slurm, output, "start=.")
    high = slurm.submit("sleep 1", "--qos=urgent", "--cpus-per-task=4")
    wait_for_state(slurm, high, "COMPLETED")
    wait_for_text(slurm, output, "start=1.", seconds=60.0)
    wait_for_accounts(slurm, low, "PREEMPTED", "RUNNING")


def test_a_drained_node_lets_its_job_end_and_takes_no_other(slurm: SlurmBed) -> None:
    running = slurm.submit("sleep 300")
    wait_for_state(slurm, running, "RUNNING")
    slurm.drain_node()
    assert slurm.node_state() == "mixed+drain"
    waiting = slurm.submit("true")
    assert (slurm.state(running), slurm.state(waiting)) == ("RUNNING", "PENDING")
    slurm.cancel(running)
    slurm.wait_for(lambda: slurm.node_state() == "idle+drain", SECONDS, "a drained node")
    slurm.resume_node()
    wait_for_state(slurm, waiting, "COMPLETED")


# --- environment


def test_export_nil_and_none_keep_the_submitter_s_variables_out(slurm: SlurmBed, tmp_path: Path) -> None:
    environment = {**slurm.full_environment, "A_TOKEN": "secret"}
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nenv\nsrun env | sed 's/^/srun /'\n")
    given = ["env", *(f"{name}={value}" for name, value in environment.items()), "sbatch", "--parsable"]
    options = {word: [f"--export={word}", f"--output={tmp_path}/{word}"] for word in ("ALL", "NIL", "NONE")}
    jobs = [slurm.run([*given, *each, str(script)]).stdout.strip() for each in options.values()]
    for job in jobs:
        wait_for_state(slurm, job, "COMPLETED")
    said = {word: (tmp_path / word).read_text().splitlines() for word in ("ALL", "NIL", "NONE")}
    assert "A_TOKEN=secret" in said["ALL"]
    for word in ("NIL", "NONE"):
        assert "A_TOKEN=secret" not in said[word]
        # srun takes this for its own --export, so steps lose what the script exports unless it is set to ALL.
        assert f"SLURM_EXPORT_ENV={word}" in said[word]


def test_the_version_is_told(slurm: SlurmBed) -> None:
    assert re.fullmatch(r"slurm(-wlm)? \d+\.\d+\.\d+\n", slurm.run(["sbatch", "--version"]).stdout)
