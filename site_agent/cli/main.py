# SPDX-License-Identifier: Apache-2.0
"""The `site-agent` command: set up a site, serve it, carry its mailbox, answer runs."""

import click

from federation.cli.errors import run_cli
from federation.no_network import forbid_sockets
from site_agent.cli.carrier import carrier
from site_agent.cli.courier import courier
from site_agent.cli.doctor import doctor
from site_agent.cli.enroll import enroll
from site_agent.cli.runs import run, status
from site_agent.cli.serve import serve, tick
from site_agent.cli.setup import init, roster


@click.group()
@click.version_option(package_name="hpc-federation")
def cli() -> None:
    """Takes part in training one model together with other sites, on this site's own terms."""


for command in (init, enroll, roster, serve, tick, courier, carrier, run, status, doctor):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    forbid_sockets()
    run_cli(cli)


if __name__ == "__main__":
    main()
