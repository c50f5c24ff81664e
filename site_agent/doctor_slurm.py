# SPDX-License-Identifier: Apache-2.0
"""Checks of a site whose jobs run under Slurm; they ask and submit nothing. See `site_agent.doctor`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from federation.durations import count
from federation.errors import FederationError
from site_agent.doctor_case import Answer, Case, Check, Finding, Verdict, finding
from site_agent.json_records import read_record
from site_agent.launcher.registry import open_slurm
from site_agent.launcher.slurm.batch import wall_time
from site_agent.launcher.slurm.commands import QueueRow, SlurmCommands
from site_agent.launcher.slurm.control import RECORD, ControlRecord
from site_agent.launcher.slurm.facts import NEEDED, Association, NodeGroup, SlurmFacts, megabytes_of
from site_agent.launcher.slurm.launcher import KNOWS_NIL, SlurmLauncher
from site_agent.launcher.slurm.settings import SlurmSection
from site_agent.launcher.slurm.states import ENDED_STATES

_OLDEST: Final = (20, 11)
"""Releases before it lack fields of `squeue --Format` and options of sacct that the launcher uses."""

CONTAINER: Final = "container"
"""The only one of `_CHECKS` that asks no command."""

SCRIPT: Final = "state/doctor.sbatch"
"""Shown to sbatch, and removed."""

_NO_JOB: Final = "1"
"""A job id to ask the accounting for, where no control job is known: only that it answers matters."""


@dataclass(frozen=True)
class Bench:
    """What the checks of one site ask, each question once."""

    settings: SlurmSection
    seconds_limit: int
    commands: SlurmCommands
    facts: SlurmFacts

    @cached_property
    def nodes(self) -> list[NodeGroup]:
        """Nodes of the partition that jobs go to; [] if there is none of that name."""
        found = self.facts.nodes(self.settings.partition)
        return found if self.settings.partition else [group for group in found if group.is_default]

    @cached_property
    def queue(self) -> list[QueueRow]:
        """This user's jobs."""
        return self.commands.queue()


def examine_slurm(case: Case) -> list[Finding]:
    """All checks of the batch system, [] for a site that has none."""
    if case.config is None or case.config.launcher != "slurm":
        return []
    slurm = case.config.slurm
    bench = Bench(
        settings=slurm,
        seconds_limit=case.config.job.seconds_limit,
        commands=SlurmCommands(slurm.bin_dir, slurm.command_timeout_seconds),
        facts=SlurmFacts(slurm.bin_dir, slurm.command_timeout_seconds),
    )
    first = finding("slurm commands", lambda _: commands_there(bench), case)
    checks = _CHECKS if first.verdict is not Verdict.FAILED else {CONTAINER: _container}
    return [first, *(finding(name, _bound(check, bench), case) for name, check in checks.items())]


def _bound(check: Callable[[Bench, Case], Answer], bench: Bench) -> Check:
    return lambda case: check(bench, case)


def commands_there(bench: Bench) -> Answer:
    """Whether the commands can be found, and their release."""
    names = (*NEEDED, "sacct") if bench.settings.has_accounting else NEEDED
    if missing := bench.facts.missing(names):
        advice = "Set slurm.bin_dir in site.toml, or load the batch system's module before the agent starts."
        return Verdict.FAILED, f"not found: {', '.join(missing)}", advice
    version = bench.commands.version()
    words = f"Slurm {'.'.join(map(str, version))}"
    if version < _OLDEST:
        return Verdict.WARNING, words, f"Releases before {_OLDEST[0]}.{_OLDEST[1]:02} were never tried."
    return Verdict.OK, words, ""


def _container(bench: Bench, _: Case) -> Answer:
    image = bench.settings.container.image
    return fit_of_container(bench.settings, sys.executable, is_there=not image or Path(image).exists())


def fit_of_container(settings: SlurmSection, own_python: str, *, is_there: bool) -> Answer:
    """Whether jobs find an interpreter where they run. Pure.

    Args:
        own_python: the agent's own interpreter, which jobs take where slurm.python is empty.
        is_there: whether the image can be seen from this machine.
    """
    image = settings.container.image
    if not image:
        return Verdict.OK, f"none: jobs run with {settings.python or own_python}", ""
    if not settings.python:
        advice = (
            "Set slurm.python to the interpreter inside the image that has torch and hpc-federation, such as "
            f"/usr/bin/python3: `{settings.container.runtime} exec {image} which python3` shows it."
        )
        found = f"{image}, and slurm.python is empty: the agent's own {own_python} is looked for inside the image"
        return Verdict.WARNING, found, advice
    if not is_there:
        advice = "Correct slurm.container.image, or look whether compute nodes see more than this machine does."
        return Verdict.WARNING, f"{image}: not found from here", advice
    return Verdict.OK, f"{image}, with {settings.python} inside it", ""


def _controller(bench: Bench, _: Case) -> Answer:
    live = [row for row in bench.queue if row.state not in ENDED_STATES]
    return Verdict.OK, f"squeue answers: {count(len(live), 'job')} of this user in the queue", ""


def _accounting(bench: Bench, case: Case) -> Answer:
    if not bench.settings.has_accounting:
        advice = "Some ends of jobs cannot be told without it, and wait for `site-agent attempt resolve`."
        return Verdict.WARNING, "slurm.has_accounting is false", advice
    record = read_record(case.fs, RECORD, ControlRecord)
    try:
        bench.commands.accounts([record.job if record else _NO_JOB])
    except FederationError as error:
        advice = "Nothing is submitted without it: wait, or set slurm.has_accounting = false if there is none here."
        return Verdict.FAILED, str(error), advice
    return Verdict.OK, "sacct answers", ""


def _control_job(bench: Bench, case: Case) -> Answer:
    if not bench.settings.control_job:
        return Verdict.OK, "none is kept (slurm.control_job is false): empty answers of squeue are believed", ""
    record = read_record(case.fs, RECORD, ControlRecord)
    if record is None:
        return Verdict.OK, "there is none yet: it comes with the first job", ""
    row = next((row for row in bench.queue if row.job == record.job), None)
    if row is None or row.state in ENDED_STATES:
        advice = "An agent submits another one once sacct says that this one ended; who cancels such held jobs here?"
        return Verdict.WARNING, f"job {record.job} is not in the queue: until then nothing is submitted", advice
    return Verdict.OK, f"job {record.job} is shown ({row.reason})", ""


def _partition(bench: Bench, _: Case) -> Answer:
    return fit_of_partition(bench.nodes, bench.settings.partition, bench.seconds_limit)


def fit_of_partition(groups: Sequence[NodeGroup], name: str, seconds_limit: int) -> Answer:
    """Whether the partition is there and up, and takes jobs of that wall time. Pure."""
    if not groups:
        what = f"no partition {name}" if name else "no default partition"
        return Verdict.FAILED, f"sinfo shows {what}", "Set slurm.partition to one that `sinfo` lists for you."
    first = groups[0]
    limit = first.max_seconds
    words = f"{first.partition} is {first.state}, wall time at most {wall_time(limit) if limit else 'unlimited'}"
    if limit and seconds_limit > limit:
        advice = f"Lower job.seconds_limit from {seconds_limit} to {limit} or less."
        return Verdict.FAILED, f"{words}, while jobs ask for {wall_time(seconds_limit)}", advice
    if first.state != "up":
        advice = "Look at the centre's announcements; jobs wait until it is up, or choose another slurm.partition."
        return Verdict.WARNING, words, advice
    return Verdict.OK, words, ""


def _nodes(bench: Bench, _: Case) -> Answer:
    return fit_of_nodes(bench.nodes, bench.settings)


def fit_of_nodes(groups: Sequence[NodeGroup], settings: SlurmSection) -> Answer:
    """Whether enough nodes of the partition have what a job asks of each. Pure."""
    if not groups:
        return Verdict.SKIPPED, "needs a partition", ""
    cpus, memory = settings.cpus_per_rank * settings.num_ranks_per_node, megabytes_of(settings.memory)
    wanted = f"{count(settings.nodes, 'node')} with {settings.gpus_per_node} GPUs, {cpus} CPUs, {memory} MB"
    fitting = [g for g in groups if g.num_gpus >= settings.gpus_per_node and g.num_cpus >= cpus]
    num_fitting = sum(g.num_nodes for g in fitting if g.memory_mb >= memory)
    most = max(groups, key=lambda g: (g.num_gpus, g.num_cpus))
    biggest = f"the largest has {most.num_gpus} GPUs, {most.num_cpus} CPUs, {most.memory_mb} MB"
    if num_fitting < settings.nodes:
        advice = "Lower nodes, gpus_per_node, cpus_per_rank or memory in `[slurm]`, or choose another partition."
        if settings.gpus_per_node and settings.gpu_request == "none" and not most.num_gpus:
            return Verdict.WARNING, f"{wanted}: sinfo shows no GPUs here, and jobs ask for none", ""
        return Verdict.FAILED, f"{wanted}: only {num_fitting} nodes have that; {biggest}", advice
    return Verdict.OK, f"{wanted}: {num_fitting} nodes have that", ""


def _associations(bench: Bench, _: Case) -> Answer:
    try:
        found = bench.facts.associations()
    except FederationError as error:
        return Verdict.SKIPPED, f"cannot be told here: {error}", ""
    return fit_of_account(found, bench.settings)


def fit_of_account(found: Sequence[Association] | None, settings: SlurmSection) -> Answer:
    """Whether this user may charge the account with that quality of service. Pure."""
    if found is None:
        return Verdict.SKIPPED, "sacctmgr is not there: a job will show it (`site-agent doctor --job`)", ""
    if not found:
        return Verdict.SKIPPED, "no association of this user is shown: accounts may not be enforced here", ""
    accounts = sorted({entry.account for entry in found})
    mine = [e for e in found if e.account == settings.account or not settings.account]
    mine = [e for e in mine if e.partition in ("", settings.partition) or not settings.partition]
    if not mine:
        advice = "Set slurm.account in site.toml to one of them, or ask the centre to add you."
        where = f" in partition {settings.partition}" if settings.account in accounts else ""
        return Verdict.FAILED, f"no account {settings.account}{where}; yours are {', '.join(accounts)}", advice
    qos = sorted({name for entry in mine for name in entry.qos})
    if settings.qos and qos and settings.qos not in qos:
        return Verdict.FAILED, f"no QOS {settings.qos}; there are {', '.join(qos)}", "Set slurm.qos to one of them."
    words = f"account {settings.account or 'by default'}, QOS {settings.qos or 'by default'}"
    return Verdict.OK, f"{words}: this user has both", ""


def _script(bench: Bench, case: Case) -> Answer:
    """sbatch itself looks at the script of a job: what this centre's groups, flags and plugins say shows only there."""
    assert case.config is not None
    module = next(iter(case.config.trainers.values())).module
    launcher = SlurmLauncher(open_slurm(case.config, case.fs, "doctor"), module)
    chosen = bench.settings.clean_environment
    clean = ("NIL" if bench.commands.version() >= KNOWS_NIL else "NONE") if chosen == "auto" else chosen
    text = launcher.script(case.fs.root / "spool", "federation-doctor", clean_environment=clean)
    case.fs.write(SCRIPT, text.encode())
    try:
        return Verdict.OK, bench.facts.rehearse(case.fs.real_path(SCRIPT)).removeprefix("sbatch: "), ""
    finally:
        case.fs.remove(SCRIPT)


_CHECKS: Final[dict[str, Callable[[Bench, Case], Answer]]] = {
    CONTAINER: _container,
    "slurm controller": _controller,
    "slurm accounting": _accounting,
    "control job": _control_job,
    "partition": _partition,
    "nodes": _nodes,
    "account": _associations,
    "batch script": _script,
}
