# SPDX-License-Identifier: Apache-2.0
"""The `federation` command: what belongs to no role, the consortium's root first."""

import importlib.metadata
from typing import Final

import click

from federation.cli.errors import run_cli
from federation.cli.lazy import LazyGroup

COMMANDS: Final = {
    "consortium": "federation.cli.consortium:consortium",
    "init-model": "federation.cli.init_model:init_model",
    "demo": "federation.cli.demo:demo",
    "verify": "federation.cli.verify:verify",
    "bench": "federation.cli.bench:bench",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("hpc-federation"), prog_name="federation")
def federation() -> None:
    """Train one language model on several supercomputers, with evidence."""


def main() -> None:
    """Entry point of the `federation` command."""
    run_cli(federation)
