# SPDX-License-Identifier: Apache-2.0
"""What a command leaves, and how it reads its options."""

import getopt
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command prints, and its exit status."""

    output: str = ""
    error: str = ""
    status: int = 0


class BadOptionError(Exception):
    """An option that the command does not know; the text is what the real one says."""


def options_of(
    command: str, arguments: list[str], short: str, names: dict[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Long names of the options with their values ("" for flags), and the positional arguments.

    Args:
        command: its name, for the message.
        arguments: as given.
        short: short options as getopt wants them.
        names: short letter or abbreviation → long name; a long name that ends in "=" has a value.

    Raises:
        BadOptionError: an unknown option.
    """
    long_names = sorted(set(names.values()))
    try:
        pairs, positional = getopt.getopt(arguments, short, long_names)
    except getopt.GetoptError as error:
        raise BadOptionError(f"{command}: unrecognized option '--{error.opt}'\n") from error
    by_letter = {f"-{letter}": name.rstrip("=") for letter, name in names.items() if len(letter) == 1}
    return {by_letter.get(name, name.lstrip("-")): value for name, value in pairs}, positional
