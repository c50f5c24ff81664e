# SPDX-License-Identifier: Apache-2.0
"""Before something that cannot be undone: what follows from it, and its name typed by whoever orders it."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from federation.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def confirm_option(function: F) -> F:
    """`--confirm NAME`, for scripts."""
    text = "The name once more, instead of typing it when asked."
    return click.option("--confirm", "typed", default=None, metavar="NAME", help=text)(function)


def confirm(name: str, consequences: Sequence[str], typed: str | None) -> None:
    """Shows the consequences on standard error; returns if the name is typed or was given.

    Args:
        typed: what `--confirm` gave; None asks on standard input.

    Raises:
        UsageError: another name, or none. Nothing was ordered.
    """
    for sentence in consequences:
        click.echo(f"- {sentence}", err=True)
    if typed is None:
        click.echo(f"Type {name} to go on: ", err=True, nl=False)
        typed = sys.stdin.readline().strip()
    if typed != name:
        raise UsageError(
            f"confirmation: expected {name}, found {typed or 'nothing'}; nothing was ordered",
            advice=f"Type the name when asked, or give --confirm {name}.",
        )
