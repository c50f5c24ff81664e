# SPDX-License-Identifier: Apache-2.0
"""`site-agent data check`: one line per data set: what it holds, and what is wrong with it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from federation.errors import ConfigError
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.data_sets import DataFormat, DataSet
from site_agent.json_records import encode
from site_agent.site_config import SiteConfig, load_site_config

EXIT_FAILED = 1


@click.group()
def data() -> None:
    """The site's own data; what is said about them stays here."""


@data.command()
@click.argument("site_dir", type=SITE_DIR)
@AS_JSON
@click.pass_context
def check(context: click.Context, site_dir: Path, as_json: bool) -> None:
    """Reads every data set of site.toml to its end; exits 1 if something is wrong with one."""
    reports = _inspected(_asked(load_site_config(site_dir), site_dir))
    failed = any(report["problems"] for report in reports)
    echo({"ok": not failed, "data_sets": reports}, "\n".join(map(_line, reports)), as_json)
    if failed:
        context.exit(EXIT_FAILED)


def _asked(config: SiteConfig, site_dir: Path) -> list[dict[str, Any]]:
    sets = config.data.data_sets(site_dir)
    if sets:
        return [{"data": json.loads(encode(item))} for item in sets]
    return [_simple(config.data_path(site_dir), language) for language in config.languages]


def _simple(data_dir: Path, language: str) -> dict[str, Any]:
    """A language of the simple way; which files are its is for the process that reads them to find."""
    found = DataSet(name=language, path=str(data_dir), format=DataFormat.TEXT, language=language)
    return {"data": json.loads(encode(found)), "simple": True}


def _inspected(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reports of a process of its own, which loads numerics."""
    command = [sys.executable, "-P", "-m", "site_agent.trainer.data_check"]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        found = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1][:500]
        advice = "Is hpc-federation installed with its extra `train` here? Jobs need it too."
        raise ConfigError(f"data check: expected reports of the data sets, found: {found}", advice=advice)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _line(report: dict[str, Any]) -> str:
    held = f"{report['num_documents']} documents ({report['num_held_out']} held out) in {report['num_files']} files"
    size = f"{report['num_bytes']} bytes, {report['num_tokens']} tokens"
    verdict = "FAILED" if report["problems"] else "ok"
    head = f"{verdict:<8}{report['name']}: {report['format']}, {report['language']}, {held}, {size}"
    return "\n".join([head, *(f"        {problem}" for problem in report["problems"])])
