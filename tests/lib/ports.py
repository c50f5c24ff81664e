# SPDX-License-Identifier: Apache-2.0
"""Ports of loopback for servers that take them later, or must keep them over restarts.

They lie below those that the system gives to clients (32768 and up on Linux), and each process of tests has its own, so
that nobody else takes one between its choice and its use.
"""

import os
import socket
from itertools import count

FIRST, EACH = 20_000, 1_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12
_numbers = count(os.getpid())


def free_port() -> int:
    """A port that nobody uses now, and that this process did not name before; of a thousand, in turn."""
    while True:
        port = FIRST + _WORKER * EACH + next(_numbers) % EACH
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
