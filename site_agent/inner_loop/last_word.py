# SPDX-License-Identifier: Apache-2.0
"""A job's process: no network, one argument, and what it said last is the last line of its log."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from federation.errors import FederationError
from federation.no_network import forbid_sockets
from site_agent.inner_loop.claim import FencedError

EXIT_FENCED: Final = 3
"""Another execution owns the allocation: this one has done nothing."""


def job_main(work: Callable[[Path], str | None], arguments: list[str], module: str) -> int:
    """The exit status of a job's process: 0 once `work` is done, 3 if it was fenced off, 2 and 1 for other failures.

    Args:
        work: takes the directory that the one argument names; may return why it ended, to be said last.
    """
    forbid_sockets()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if len(arguments) != 1:
        print(f"usage: python -m {module} DIRECTORY", file=sys.stderr)
        return 2
    try:
        sentence = work(Path(arguments[0]))
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return EXIT_FENCED if isinstance(error, FencedError) else 1
    if sentence:
        logging.info("ended: %s", sentence)
    return 0


def end_process(status: int) -> NoReturn:
    """Ends the process at once, after everything that it said is written.

    Libraries that are torn down with the interpreter write notices of their own; everything durable is durable by now.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
