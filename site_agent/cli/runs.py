# SPDX-License-Identifier: Apache-2.0
"""`site-agent run …`: what the site's operator sees of runs, and her answers."""

import dataclasses
import time
from pathlib import Path

import click

from federation.durable.real import RealFileSystem
from federation.ids import short
from site_agent import answers
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.cli.status_facts import require_view
from site_agent.cli.status_lines import run_line
from site_agent.site_config import load_site_config


@click.group()
def run() -> None:
    """Runs that name this site, and this site's answers to them."""


@run.command("list")
@click.argument("site_dir", type=SITE_DIR)
@click.option("--all", "show_all", is_flag=True, help="Also those that need no answer of yours.")
@AS_JSON
def run_list(site_dir: Path, show_all: bool, as_json: bool) -> None:
    """Lists runs that wait for `run accept` or `run refuse`, because the policy leaves them to a person."""
    view = require_view(_fs(site_dir))
    shown = [item for item in view.runs if show_all or item.waits_for_operator]
    text = "\n".join(run_line(item) for item in shown) or "No run waits for your answer."
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


def _fs(site_dir: Path) -> RealFileSystem:
    load_site_config(site_dir)
    return RealFileSystem(site_dir)
