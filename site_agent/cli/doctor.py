# SPDX-License-Identifier: Apache-2.0
"""`site-agent doctor`: one line per check: what was found, and what to do."""

from dataclasses import asdict
from pathlib import Path

import click

from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.doctor import Finding, Verdict, examine

EXIT_FAILED = 1


@click.command()
@click.argument("site_dir", type=SITE_DIR)
@AS_JSON
@click.pass_context
def doctor(context: click.Context, site_dir: Path, as_json: bool) -> None:
    """Looks at configuration, roster, certificate, courier, clock, disk, numerics; exits 1 if something fails."""
    findings = examine(site_dir)
    failed = any(finding.verdict is Verdict.FAILED for finding in findings)
    echo({"ok": not failed, "checks": [asdict(f) for f in findings]}, "\n".join(map(_line, findings)), as_json)
    if failed:
        context.exit(EXIT_FAILED)


def _line(finding: Finding) -> str:
    advice = f" -> {finding.advice}" if finding.advice else ""
    return f"{finding.verdict.value:<8}{finding.check}: {finding.found}{advice}"
