# SPDX-License-Identifier: Apache-2.0
"""The `coordinator` command: set up and serve a coordinator, and steer runs as an operator."""

import click

from coordinator.cli.runs import round_group, run, site
from coordinator.cli.serve import serve
from coordinator.cli.setup import init, operator, roster
from federation.cli.errors import run_cli


@click.group()
@click.version_option(package_name="hpc-federation")
def cli() -> None:
    """Coordinates the training of one model at several supercomputers."""


for command in (init, operator, roster, serve, run, site, round_group):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    run_cli(cli)
