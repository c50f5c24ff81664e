# SPDX-License-Identifier: Apache-2.0
"""One way out for the three commands: a sentence and an exit code for people's mistakes, a traceback for ours."""

import os
import sys
from typing import Final, NoReturn

import click

from federation.errors import FederationError

EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""

EXIT_IO: Final = 1


def run_cli(command: click.Command) -> NoReturn:
    """Runs a command line and exits: 0, a FederationError's `exit_code`, 2 for wrong usage, 130 when interrupted.

    Expected failures print their diagnostics to standard error. Anything else is a bug of ours and keeps its traceback.
    """
    sys.exit(exit_code_of(command))


def exit_code_of(command: click.Command) -> int:
    """Runs a command line like `run_cli`, but returns the exit code."""
    try:
        result = command.main(standalone_mode=False)
    except FederationError as error:
        _complain(error.diagnostics())
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_IO
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return EXIT_IO
    return result if isinstance(result, int) else 0


def _complain(text: str) -> None:
    click.echo(f"error: {text}", err=True)


def _silence_stdout() -> None:
    """The reader of our output is gone; without this Python complains once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
