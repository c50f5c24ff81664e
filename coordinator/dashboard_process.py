# SPDX-License-Identifier: Apache-2.0
"""Keeps the dashboard's process alive beside a coordinator that is served. Its end never touches the coordinator."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

LOG: Final = logging.getLogger("coordinator.dashboard")
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
STEADY_SECONDS: Final = 300.0
"""Who has run for so long is not one that fails at its start."""

STOP_SECONDS: Final = 5.0
_USAGE_STATUS: Final = 2
"""Its configuration is wrong: starting again would not help."""


def dashboard_command(directory: Path) -> list[str]:
    """The process of a directory's dashboard; it ends by itself when this process is gone."""
    arguments = ["dashboard", "serve", str(directory), "--parent", str(os.getpid())]
    return [sys.executable, "-P", "-m", "coordinator.cli", *arguments]


class DashboardProcess:
    """One child, started again after a growing pause where it ended by itself."""

    def __init__(self, command: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._command, self._clock = list(command), clock
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._next = 0.0
        self._pause = FIRST_PAUSE_SECONDS

    def look(self) -> None:
        """Starts it where it does not run and is due."""
        if self._child is not None and self._child.poll() is not None:
            self._ended(self._child.returncode)
        if self._child is None and self._clock() >= self._next:
            self._start()

    def _start(self) -> None:
        self._started = self._clock()
        try:
            self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        except OSError as error:  # no memory, no processes left: the coordinator goes on
            LOG.warning("the dashboard could not be started (%s); it is tried again in %.0f s", error, self._pause)
            self._wait()

    def _wait(self) -> None:
        self._next, self._pause = self._clock() + self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _ended(self, status: int) -> None:
        self._child = None
        if status == _USAGE_STATUS:
            self._next = float("inf")
            LOG.error("the dashboard cannot be served, as it has said; the coordinator goes on without it")
            return
        if self._clock() - self._started > STEADY_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        LOG.warning("the dashboard ended with status %d; it is started again in %.0f s", status, self._pause)
        self._wait()

    def stop(self) -> None:
        """Ends it, cleanly if it lets itself be."""
        self._next = float("inf")
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
