# SPDX-License-Identifier: Apache-2.0
"""Documents for people who look over the network, made by the driver between two of its steps.

The driver alone reads the coordinator's state, so a document is never of two moments; and it makes each document once,
however many ask for it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from federation.errors import OverloadedError

MAX_ASKED: Final = 256
"""Different documents asked for between two steps."""

Subject = str
"""Id of a run, or "" for the status of the whole coordinator."""


class Documents:
    """Where the network asks and the driver answers."""

    def __init__(self, asked: Callable[[], None]) -> None:
        """`asked` is called, on the asker's thread, when the driver has something to answer."""
        self._notify = asked
        self._lock = threading.Lock()
        self._waiting: dict[Subject, Future[str]] = {}

    def ask(self, subject: Subject) -> Future[str]:
        """A document (JSON) as of the driver's next pause. Raises OverloadedError."""
        with self._lock:
            if subject not in self._waiting and len(self._waiting) >= MAX_ASKED:
                raise OverloadedError(f"documents: expected at most {MAX_ASKED} at a time", retry_after_seconds=1.0)
            future = self._waiting.setdefault(subject, Future())
        self._notify()
        return future

    def answer(self, make: Callable[[Subject], str]) -> int:
        """Makes what was asked for; the driver calls it between two steps. Returns how many documents that were."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for subject, future in waiting.items():
            try:
                future.set_result(make(subject))
            except Exception as error:
                future.set_exception(error)
        return len(waiting)
