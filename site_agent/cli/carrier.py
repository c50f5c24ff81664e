# SPDX-License-Identifier: Apache-2.0
"""`site-agent carrier`: carries mailboxes between directories of one machine. It needs no key and no trust."""

import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from federation.mailbox.carrier import carry_both
from site_agent import layout
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.site_config import load_site_config


@click.command()
@click.argument("directories", type=SITE_DIR, nargs=-1, required=True, metavar="SITE_DIR... COORDINATOR_DIR")
@click.option("--once", is_flag=True, help="Carry what is there, then end.")
@click.option("--poll-seconds", default=0.2, show_default=True, help="Between two looks when there is nothing.")
@AS_JSON
def carrier(directories: tuple[Path, ...], once: bool, poll_seconds: float, as_json: bool) -> None:
    """Carries messages and blobs both ways between sites and a coordinator on this machine."""
    *sites, coordinator = directories
    if not sites:
        raise ConfigError(
            "carrier: expected at least one site's directory and the coordinator's, found one directory",
            advice="Run `site-agent carrier SITE_DIR COORDINATOR_DIR`.",
        )
    routes = [(path, load_site_config(path).site) for path in sites]
    if once:
        brought = _carry(routes, coordinator)
        echo({"files": brought}, f"Carried {brought} files.", as_json)
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        if not _carry(routes, coordinator):
            stop.wait(poll_seconds)


def _carry(routes: Sequence[tuple[Path, str]], coordinator: Path) -> int:
    there = RealFileSystem(coordinator)
    return sum(carry_both(RealFileSystem(path), layout.MAILBOX, there, f"mailbox/{site}") for path, site in routes)
