# SPDX-License-Identifier: Apache-2.0
"""The three commands behind one `main`, for processes that are forked with everything loaded; see `forked_job`."""

import sys

import click

import coordinator.cli.main
import federation.cli.main
import site_agent.cli.main

MAINS = {
    "federation": federation.cli.main.main,
    "coordinator": coordinator.cli.main.main,
    "site-agent": site_agent.cli.main.main,
}

for group in (coordinator.cli.main.cli, federation.cli.main.federation, site_agent.cli.main.cli):
    for name in group.list_commands(click.Context(group)):
        group.get_command(click.Context(group), name)  # imports it


def main(arguments: list[str]) -> int:
    """Runs one command; its exit status."""
    sys.argv = arguments
    try:
        MAINS[arguments[0]]()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0
