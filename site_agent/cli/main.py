# SPDX-License-Identifier: Apache-2.0
"""The `site-agent` command: set up a site, serve it, carry its mailbox, answer runs."""

from typing import Final

import click

from federation.cli.errors import run_cli
from federation.cli.lazy import LazyGroup
from federation.no_network import forbid_sockets

COMMANDS: Final = {
    "init": "site_agent.cli.setup:init",
    "enroll": "site_agent.cli.enroll:enroll",
    "roster": "site_agent.cli.setup:roster",
    "serve": "site_agent.cli.serve:serve",
    "tick": "site_agent.cli.serve:tick",
    "courier": "site_agent.cli.courier:courier",
    "carrier": "site_agent.cli.carrier:carrier",
    "run": "site_agent.cli.runs:run",
    "job": "site_agent.cli.jobs:job",
    "attempt": "site_agent.cli.jobs:attempt",
    "policy": "site_agent.cli.policy:policy",
    "budget": "site_agent.cli.budget:budget",
    "data": "site_agent.cli.data:data",
    "status": "site_agent.cli.status:status",
    "doctor": "site_agent.cli.doctor:doctor",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hpc-federation")
def cli() -> None:
    """Takes part in training one model together with other sites, on this site's own terms."""


def main() -> None:
    """Entry point of the console script."""
    forbid_sockets()
    run_cli(cli)


if __name__ == "__main__":
    main()
