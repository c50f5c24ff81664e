# SPDX-License-Identifier: Apache-2.0
"""`site-agent job …`, `site-agent attempt …`: what is handed to the batch system, and what became of it."""

import dataclasses
from pathlib import Path
from typing import Final

import click

from federation.durable.real import RealFileSystem
from federation.errors import UsageError
from federation.site_profile import load_profile
from site_agent import answers, layout
from site_agent.budget_units import estimate_words
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.executor import job_name
from site_agent.identity import job_tag, load_identity
from site_agent.launcher.registry import open_launchers, open_slurm
from site_agent.launcher.slurm.launcher import SlurmLauncher, is_handle
from site_agent.site_config import SITE_FILE, SiteConfig, load_site_config
from site_agent.site_policy import job_size, unit_of
from site_agent.views import AllocationView, read_view


@click.group()
def job() -> None:
    """Jobs of this site, as the batch system gets them."""


@job.command("render")
@click.argument("site_dir", type=SITE_DIR)
@click.option("--run", "run_id", default="RUN", help="Run that the script is shown for.")
@click.option("--trainer", default="", help="Trainer of site.toml.  [default: the first]")
@AS_JSON
def job_render(site_dir: Path, run_id: str, trainer: str, as_json: bool) -> None:
    """Prints the batch script of the next job, and on standard error what one such job can cost. Submits nothing."""
    config, fs = load_site_config(site_dir), RealFileSystem(site_dir)
    script = _script(config, fs, run_id, trainer or min(config.trainers))
    size, unit = job_size(config), unit_of(config)
    if as_json:
        cost = {"gpu_hours": size.gpu_hours, "native_unit": unit.name, "native_units": unit.of(size.gpu_hours)}
        echo({"script": script, **cost}, "", as_json)
        return
    click.echo(script, nl=False)
    click.echo(f"Each job can cost {estimate_words(size, unit, load_profile(config.profile))}.", err=True)


@job.command("clear")
@click.argument("site_dir", type=SITE_DIR)
@AS_JSON
def job_clear(site_dir: Path, as_json: bool) -> None:
    """Takes this site's held control job out of the queue, for a site that leaves. A submission makes another."""
    config, fs = load_site_config(site_dir), RealFileSystem(site_dir)
    control = open_slurm(config, fs, job_tag(load_identity(fs, config.site))).control
    job_id = control.job if control is not None else ""
    if control is not None:
        control.remove()
    text = f"Job {job_id} is out of the queue." if job_id else "There is no control job."
    echo({"job": job_id}, text, as_json)


def _script(config: SiteConfig, fs: RealFileSystem, run: str, trainer: str) -> str:
    if trainer not in config.trainers:
        known = ", ".join(sorted(config.trainers))
        raise UsageError(f"--trainer: expected one of {SITE_FILE}: {known}; found {trainer}")
    identity = load_identity(fs, config.site)
    launcher = open_launchers(config, fs, job_tag(identity))[trainer]
    if not isinstance(launcher, SlurmLauncher):
        raise UsageError(
            f"{SITE_FILE}: expected a launcher that writes batch scripts, found launcher = {config.launcher!r}",
            advice='Set launcher = "slurm" and the keys of [slurm].',
        )
    directory, name = fs.root / layout.allocation_dir(run, 1), job_name(identity, run, 1)
    return launcher.script(directory, name, clean_environment=launcher.clean_environment_here())


@click.group()
def attempt() -> None:
    """Attempts to run an allocation whose fate the batch system cannot tell."""


NO_JOBS: Final = "No job was ever submitted."


@attempt.command("list")
@click.argument("site_dir", type=SITE_DIR)
@AS_JSON
def attempt_list(site_dir: Path, as_json: bool) -> None:
    """Lists the newest allocation of each run, and what cannot be told of it."""
    view = read_view(RealFileSystem(site_dir))
    shown = [(item.run, item.allocation) for item in view.runs if item.allocation.allocation] if view else []
    lines = [_attempt_line(run, allocation) for run, allocation in shown]
    text = "\n".join(["run  job  state  handle  as the launcher saw it last", *lines] if lines else [NO_JOBS])
    echo([{"run": run, **dataclasses.asdict(allocation)} for run, allocation in shown], text, as_json)


@attempt.command("resolve")
@click.argument("site_dir", type=SITE_DIR)
@click.argument("run_id", metavar="RUN")
@click.argument("number", type=int, metavar="ALLOCATION")
@click.option("--ended", is_flag=True, help="You made sure that no job of it runs or waits anywhere.")
@click.option("--handle", default="", help="You found its job: slurm:-:JOBID.")
@AS_JSON
def attempt_resolve(site_dir: Path, run_id: str, number: int, ended: bool, handle: str, as_json: bool) -> None:
    """Says what became of job number ALLOCATION of RUN. Look with squeue and sacct on every login node first.

    After --ended whatever may still start for it is fenced off: it finds its allocation closed, and exits.
    """
    if ended == bool(handle):
        raise UsageError("attempt resolve: expected either --ended or --handle, found both or none")
    fs = RealFileSystem(site_dir)
    load_site_config(site_dir)
    if handle and not is_handle(handle):
        raise UsageError(f"--handle: expected slurm:-:JOBID, found {handle!r:.60}", advice="`squeue --me` lists ids.")
    if ended:
        answers.declare_ended(fs, run_id, number)
    else:
        answers.declare_handle(fs, run_id, number, handle)
    found = "has ended" if ended else f"is {handle}"
    echo(
        {"run": run_id, "allocation": f"a{number}", "handle": handle},
        f"Job a{number} of run {run_id} {found}.",
        as_json,
    )


def _attempt_line(run: str, allocation: AllocationView) -> str:
    line = f"{run}  {allocation.allocation}  {allocation.state}  {allocation.handle or 'no handle'}"
    line += f"  {allocation.execution}" if allocation.execution else ""
    return f"{line}: {allocation.doubt}" if allocation.doubt else line
