# SPDX-License-Identifier: Apache-2.0
"""The `site-agent` command: set up a site, serve it, carry its mailbox, answer runs."""

from typing import Final

import click

from federation.cli.errors import run_cli
from federation.no_network import forbid_sockets
from site_agent.cli.budget import budget
from site_agent.cli.carrier import carrier
from site_agent.cli.courier import courier
from site_agent.cli.data import data
from site_agent.cli.doctor import doctor
from site_agent.cli.enroll import enroll
from site_agent.cli.jobs import attempt, job
from site_agent.cli.policy import policy
from site_agent.cli.runs import run
from site_agent.cli.serve import serve, tick
from site_agent.cli.setup import init, roster
from site_agent.cli.status import status


@click.group()
@click.version_option(package_name="hpc-federation")
def cli() -> None:
    """Takes part in training one model together with other sites, on this site's own terms."""


COMMANDS: Final = (
    init,
    enroll,
    roster,
    serve,
    tick,
    courier,
    carrier,
    run,
    job,
    attempt,
    policy,
    budget,
    data,
    status,
    doctor,
)

for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    forbid_sockets()
    run_cli(cli)


if __name__ == "__main__":
    main()
