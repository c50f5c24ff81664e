# SPDX-License-Identifier: Apache-2.0
"""Where a job's slow writing is done: on a thread beside training, or at once."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

Work = Callable[[], None]

_log = logging.getLogger(__name__)


class Writer(Protocol):
    """Does one piece of work at a time, in the order of `submit`."""

    @property
    def is_busy(self) -> bool:
        """Whether a piece is not finished yet."""

    def submit(self, work: Work) -> None:
        """Begins with a piece of work; waits for the one before. Raises what that one raised."""

    def check(self) -> None:
        """Raises what a finished piece raised, once."""

    def flush(self) -> None:
        """Waits for the piece in progress. Raises what it raised."""

    def close(self) -> None:
        """Waits for the piece in progress and takes no more; an error of it is only logged."""


class InlineWriter:
    """Everything is done when `submit` returns: for simulators, and where order matters more than time."""

    is_busy = False

    def submit(self, work: Work) -> None:
        """Does it."""
        work()

    def check(self) -> None:
        """Nothing is ever left."""

    def flush(self) -> None:
        """Nothing is ever left."""

    def close(self) -> None:
        """Nothing is ever left."""


class BackgroundWriter:
    """One thread of its own. Belongs to the thread that trains."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._pending: Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a piece is not finished, or its error was not raised yet."""
        return self._pending is not None and not self._pending.done()

    def submit(self, work: Work) -> None:
        """Begins with it on the thread."""
        self.flush()
        self._pending = self._thread.submit(work)

    def check(self) -> None:
        """Raises what a finished piece raised, once."""
        if self._pending is not None and self._pending.done():
            self.flush()

    def flush(self) -> None:
        """Waits."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits, and ends the thread."""
        try:
            self.flush()
        except Exception as error:
            _log.warning("while the job ended: %s", error)
        self._thread.shutdown()
