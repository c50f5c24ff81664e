# SPDX-License-Identifier: Apache-2.0
"""Commands that are imported when they are used: all that are named exist, and a small one loads no large library."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from coordinator.cli.main import cli as coordinator
from coordinator.cli.setup import operator
from federation.cli.bench import bench
from federation.cli.lazy import LazyGroup
from federation.cli.main import federation
from site_agent.cli.main import cli as site_agent

GROUPS = (coordinator, operator, federation, bench, site_agent)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_each_command_is_there_under_its_name(group: LazyGroup) -> None:
    context = click.Context(group)
    names = group.list_commands(context)
    assert names == sorted(names)
    for name in names:
        found = group.get_command(context, name)
        assert found is not None
        assert (found.name, bool(found.get_short_help_str())) == (name, True)


def test_an_unknown_command_is_told() -> None:
    result = CliRunner().invoke(coordinator, ["frobnicate"])
    assert (result.exit_code, "No such command 'frobnicate'" in result.output) == (2, True)


def test_commands_that_were_added_are_known_too() -> None:
    group = LazyGroup("both", lazy={"b": "federation.cli.verify:verify"})
    group.add_command(click.Command("a"))
    assert group.list_commands(click.Context(group)) == ["a", "b"]
    assert group.get_command(click.Context(group), "a") is not None


def test_a_small_command_loads_no_large_library() -> None:
    code = (
        "import sys; from coordinator.cli.main import cli\n"
        "try: cli(['operator', 'init', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'zarr', 'starlette', 'grpc', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
