# SPDX-License-Identifier: Apache-2.0
"""The `federation` command: what belongs to no role, the consortium's root first."""

import importlib.metadata

import click

from federation.cli.bench import bench
from federation.cli.consortium import consortium
from federation.cli.demo import demo
from federation.cli.errors import run_cli
from federation.cli.init_model import init_model
from federation.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("hpc-federation"), prog_name="federation")
def federation() -> None:
    """Train one language model on several supercomputers, with evidence."""


for command in (consortium, init_model, demo, verify, bench):
    federation.add_command(command)


def main() -> None:
    """Entry point of the `federation` command."""
    run_cli(federation)
