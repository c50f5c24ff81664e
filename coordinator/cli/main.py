# SPDX-License-Identifier: Apache-2.0
"""The `coordinator` command: set up and serve a coordinator, and steer runs as an operator."""

from typing import Final

import click

from federation.cli.errors import run_cli
from federation.cli.lazy import LazyGroup

COMMANDS: Final = {
    "init": "coordinator.cli.setup:init",
    "operator": "coordinator.cli.setup:operator",
    "roster": "coordinator.cli.setup:roster",
    "serve": "coordinator.cli.serve:serve",
    "status": "coordinator.cli.sites:status",
    "run": "coordinator.cli.runs:run",
    "site": "coordinator.cli.sites:site",
    "round": "coordinator.cli.runs:round_group",
    "dashboard": "coordinator.cli.dashboard:dashboard",
    "notify": "coordinator.cli.notify:notify",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hpc-federation")
def cli() -> None:
    """Coordinates the training of one model at several supercomputers."""


def main() -> None:
    """Entry point of the console script."""
    run_cli(cli)
