# SPDX-License-Identifier: Apache-2.0
"""Commands by the words that name them."""

import click


def named(group: click.Command, *words: str) -> click.Command:
    """The command that these words lead to. Raises LookupError(word): there is none."""
    found = group
    for word in words:
        inner = found.get_command(click.Context(found), word) if isinstance(found, click.Group) else None
        if inner is None:
            raise LookupError(word)
        found = inner
    return found


def split(program: click.Command, words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a command line names, and what is left of the line for it. Raises as `named`."""
    command, rest = program, words
    while isinstance(command, click.Group) and rest:
        command, rest = named(command, rest[0]), rest[1:]
    return command, rest
