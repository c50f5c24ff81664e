# SPDX-License-Identifier: Apache-2.0
"""`site-agent run …`, `site-agent status`: what the site's operator sees of runs, and her answers."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

import click

from federation.durable.real import RealFileSystem
from federation.durations import count
from federation.errors import UsageError
from federation.ids import short
from federation.messages import AllocationState
from site_agent import answers, layout
from site_agent.cli.courier import courier_facts, courier_lines
from site_agent.cli.credentials import credential_countdowns, credential_facts, credential_lines
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.failures import NO_FAILURE, Retry, failure_of
from site_agent.preflight_report import PreflightReport, preflight_line, read_preflight
from site_agent.site_config import load_site_config
from site_agent.views import RunView, SiteView, read_view


@click.group()
def run() -> None:
    """Runs that name this site, and this site's answers to them."""


@run.command("list")
@click.argument("site_dir", type=SITE_DIR)
@click.option("--all", "show_all", is_flag=True, help="Also those that need no answer of yours.")
@AS_JSON
def run_list(site_dir: Path, show_all: bool, as_json: bool) -> None:
    """Lists runs that wait for `run accept` or `run refuse`, because the policy leaves them to a person."""
    view = _view(site_dir)
    shown = [item for item in view.runs if show_all or item.waits_for_operator]
    text = "\n".join(_line(item) for item in shown) or "No run waits for your answer."
    echo([dataclasses.asdict(item) for item in shown], text, as_json)


@run.command("accept")
@click.argument("site_dir", type=SITE_DIR)
@click.argument("run_id", metavar="RUN")
@click.option("--manifest", default="", help="Digest of the manifest that you looked at, or its beginning.")
@AS_JSON
def run_accept(site_dir: Path, run_id: str, manifest: str, as_json: bool) -> None:
    """Accepts the manifest of RUN that this site has seen, and no other one. Cannot overrule a policy's no."""
    shown = answers.accept(_fs(site_dir), run_id, manifest)
    text = f"Run {run_id} is accepted with manifest {short(shown.manifest_digest)}."
    echo({"run": run_id, "accepted": True, "manifest_digest": shown.manifest_digest}, text, as_json)


@run.command("refuse")
@click.argument("site_dir", type=SITE_DIR)
@click.argument("run_id", metavar="RUN")
@AS_JSON
def run_refuse(site_dir: Path, run_id: str, as_json: bool) -> None:
    """Refuses RUN, whatever its manifest, the policy or the coordinator say; a running job is stopped."""
    answers.refuse(_fs(site_dir), run_id)
    echo({"run": run_id, "accepted": False}, f"Run {run_id} is refused.", as_json)


@run.command("retry")
@click.argument("site_dir", type=SITE_DIR)
@click.argument("run_id", metavar="RUN")
@AS_JSON
def run_retry(site_dir: Path, run_id: str, as_json: bool) -> None:
    """Forgets RUN's failed jobs: the next one starts in the agent's next pass, if nothing else is in its way.

    Refused after a failure that no further job can mend.
    """
    waits_for = answers.retry(_fs(site_dir), run_id, time.time_ns() // 1000)
    soon = "The next job starts in the agent's next pass."
    when = f"The next job does not start at once: {waits_for}." if waits_for else soon
    text = f"Run {run_id}: its failed jobs are forgotten. {when}"
    echo({"run": run_id, "starts": not waits_for, "waits_for": waits_for}, text, as_json)


@run.command("ended")
@click.argument("site_dir", type=SITE_DIR)
@click.argument("run_id", metavar="RUN")
@click.argument("number", type=int, metavar="ALLOCATION")
@AS_JSON
def run_ended(site_dir: Path, run_id: str, number: int, as_json: bool) -> None:
    """Vouches that job number ALLOCATION of RUN, whose fate the launcher cannot tell, runs no more."""
    answers.declare_ended(_fs(site_dir), run_id, number)
    echo({"run": run_id, "allocation": f"a{number}"}, f"Allocation a{number} of run {run_id} has ended.", as_json)


@click.command()
@click.argument("site_dir", type=SITE_DIR)
@AS_JSON
def status(site_dir: Path, as_json: bool) -> None:
    """Shows what the agent of SITE_DIR saw and did last, its courier, and what expires."""
    view, fs = _view(site_dir), RealFileSystem(site_dir)
    expiring = credential_countdowns(fs, site_dir, time.time())
    found = _preflights(fs, view)
    lines = [*_status_lines(view, found), *(f"  {line}" for line in courier_lines(fs, time.time()))]
    lines += [f"  {line}" for line in credential_lines(expiring)]
    facts: dict[str, object] = {"courier": courier_facts(fs), "credentials": credential_facts(expiring)}
    facts["preflight"] = {run: {"ok": report.ok, **dataclasses.asdict(report)} for run, report in found.items()}
    echo({**dataclasses.asdict(view), **facts}, "\n".join(lines), as_json)


def _fs(site_dir: Path) -> RealFileSystem:
    load_site_config(site_dir)
    return RealFileSystem(site_dir)


def _view(site_dir: Path) -> SiteView:
    view = read_view(_fs(site_dir))
    if view is None:
        raise UsageError(f"{site_dir}: expected an agent that ran, found none", advice="Run `site-agent serve` first.")
    return view


def _preflights(fs: RealFileSystem, view: SiteView) -> dict[str, PreflightReport]:
    """Per run what its newest job found its machines to be, where it has got so far."""
    jobs = {item.run: item.allocation.allocation.removeprefix("a") for item in view.runs if item.allocation.allocation}
    read = {run: read_preflight(fs, layout.allocation_dir(run, int(number))) for run, number in jobs.items()}
    return {run: report for run, report in read.items() if report is not None}


def _status_lines(view: SiteView, preflights: Mapping[str, PreflightReport]) -> list[str]:
    heard = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(view.heard_at_us / 1e6)) if view.heard_at_us else "never"
    lines = [f"site {view.site}: {count(view.ledger_size, 'leaf', 'leaves')}, coordinator last heard {heard}"]
    if view.fault:
        lines.append(f"  LEDGER CANNOT BE FOLLOWED: {view.fault}")
    if view.silent and not view.fault:
        lines.append("  the coordinator is silent: nothing new starts")
    if view.blobs_wanted:
        lines.append(f"  waits for {count(view.blobs_wanted, 'blob')}")
    if view.waits_for_witnesses:
        lines.append("  waits for other sites' cosignatures")
    for item in view.runs:
        lines.append(f"  {_line(item)}")
        if item.run in preflights:
            runs = "ran" if item.allocation.state == AllocationState.ENDED else "runs"
            lines.append(f"    job {item.allocation.allocation} {runs} on {preflight_line(preflights[item.run])}")
        lines += [f"    {verdict.line()}" for verdict in item.verdicts]
        lines += [f"    {sentence}" for sentence in item.tasks]
    return lines


def _line(item: RunView) -> str:
    answer = "waits for your answer" if item.waits_for_operator else item.answer or "not answered"
    line = f"{item.run}  {item.state}  {item.num_commits}/{item.num_rounds} rounds  {answer}: {item.sentence}"
    job = item.allocation
    if job.allocation:
        line += f"  job {job.allocation} {job.state}"
        line += f" ({job.remark})" if job.remark else ""
        has_failed = bool(job.sentence and (job.failures or job.reason not in NO_FAILURE))
        line += f", {job.reason}: {job.sentence}" if has_failed else ""
        line += f", {job.failures} failed in a row" if job.failures else ""
        line += f"\n    {_advice(job.reason)}" if has_failed else ""
    if item.draining:
        line += f"\n    jobs are told to end: {item.draining}"
    elif item.no_start:
        line += f"\n    no job starts now: {item.no_start}"
    if job.hindrance is not None:
        head = "WAITS FOR A HUMAN" if job.hindrance.needs_human else "may wait for long"
        line += f"\n    {head}: {job.hindrance.code}: {job.hindrance.sentence}. {job.hindrance.advice}"
    if job.doubt:
        number = job.allocation.removeprefix("a")
        line += f"\n    WAITS FOR A HUMAN: {job.doubt}; see `site-agent attempt resolve SITE_DIR {item.run} {number}`"
    return line


def _advice(reason: str) -> str:
    """What can be done about a failed job, and who does it."""
    failure = failure_of(reason)
    who = {Retry.BACKOFF: "tried again by itself", Retry.WAIT_FOR_HUMAN: "WAITS FOR A HUMAN", Retry.NEVER: "given up"}
    return f"{who[failure.retry]}: {failure.advice}"
