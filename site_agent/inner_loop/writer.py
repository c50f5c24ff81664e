# SPDX-License-Identifier: Apache-2.0
"""Where a job's slow writing is done: on a thread beside training, or at once."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
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


class Latest(Generic[T]):
    """Writes the newest value on a thread of its own; older ones that nobody has begun to write are left out.

    Even a small file that replaces another one takes milliseconds while a large one is being written.
    """

    def __init__(self, write: Callable[[T], None]) -> None:
        self._write = write
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reports")
        self._lock = threading.Lock()
        self._values: list[T] = []
        self._error: Exception | None = None

    def put(self, value: T) -> None:
        """Returns at once. Raises what writing an earlier value raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        with self._lock:
            is_awaited, self._values = bool(self._values), [value]
        if not is_awaited:
            self._thread.submit(self._write_newest)

    def close(self) -> None:
        """Writes what is left, and ends the thread; an error is only logged."""
        self._thread.shutdown()
        if self._error is not None:
            _log.warning("while the job ended: %s", self._error)

    def _write_newest(self) -> None:
        with self._lock:
            (value,), self._values = self._values, []
        try:
            self._write(value)
        except Exception as error:
            self._error = error
