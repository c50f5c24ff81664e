# SPDX-License-Identifier: Apache-2.0
"""`site-agent doctor`: one line per check: what was found, and what to do."""

from dataclasses import asdict
from pathlib import Path

import click

from federation.errors import FederationError
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.doctor import examine
from site_agent.doctor_case import Finding, Verdict
from site_agent.doctor_job import examine_job
from site_agent.site_config import load_site_config

EXIT_FAILED = 1


@click.command()
@click.argument("site_dir", type=SITE_DIR)
@click.option("--job", "with_job", is_flag=True, help="Start a short test job too, as any job of this site.")
@click.option(
    "--wait-seconds",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="With --job: how long it may wait and run before it is cancelled.",
)
@click.option("--all-nodes", is_flag=True, help="With --job: on slurm.nodes nodes, not on one.")
@AS_JSON
@click.pass_context
def doctor(
    context: click.Context, site_dir: Path, with_job: bool, wait_seconds: float, all_nodes: bool, as_json: bool
) -> None:
    """Looks at configuration, roster, courier, network, disk, credentials, numerics and the batch system.

    Exits 1 if something fails. Submits nothing, unless --job is given.
    """
    findings = examine(site_dir)
    if with_job:
        findings += _job(site_dir, wait_seconds, all_nodes)
    failed = any(finding.verdict is Verdict.FAILED for finding in findings)
    echo({"ok": not failed, "checks": [asdict(f) for f in findings]}, "\n".join(map(_line, findings)), as_json)
    if failed:
        context.exit(EXIT_FAILED)


def _job(site_dir: Path, wait_seconds: float, all_nodes: bool) -> list[Finding]:
    try:
        config = load_site_config(site_dir)
    except FederationError:
        return [Finding(check="test job", verdict=Verdict.SKIPPED, found="needs a readable configuration")]
    return examine_job(site_dir, config, wait_seconds, all_nodes=all_nodes)


def _line(finding: Finding) -> str:
    advice = f" -> {finding.advice}" if finding.advice else ""
    return f"{finding.verdict.value:<8}{finding.check}: {finding.found}{advice}"
