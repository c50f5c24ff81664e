# SPDX-License-Identifier: Apache-2.0
"""The `coordinator` command: set up and serve a coordinator, and steer runs as an operator."""

import click

from coordinator.cli.dashboard import dashboard
from coordinator.cli.enroll import operator_enroll
from coordinator.cli.invites import operator_invite
from coordinator.cli.notify import notify
from coordinator.cli.runs import round_group, run
from coordinator.cli.serve import serve
from coordinator.cli.setup import init, operator, roster
from coordinator.cli.sites import site, status
from federation.cli.errors import run_cli


@click.group()
@click.version_option(package_name="hpc-federation")
def cli() -> None:
    """Coordinates the training of one model at several supercomputers."""


operator.add_command(operator_invite)
operator.add_command(operator_enroll)
for command in (init, operator, roster, serve, status, run, site, round_group, dashboard, notify):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    run_cli(cli)
