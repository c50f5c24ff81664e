# SPDX-License-Identifier: Apache-2.0
"""Whether anybody still reads standard output: a stream that has no news just now would not notice."""

import select
import sys


def check_reader() -> None:
    """Looks once.

    Raises:
        BrokenPipeError: standard output is a pipe, and its other end was closed.
    """
    poll = select.poll()
    try:
        poll.register(sys.stdout, 0)  # asks for nothing but errors
    except (OSError, ValueError):  # no file of the operating system
        return
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        raise BrokenPipeError
