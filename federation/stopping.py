# SPDX-License-Identifier: Apache-2.0
"""How services learn that they are to end, and how they rest until then."""

import signal
import threading
import time
from typing import Final

_SLICE_SECONDS: Final = 0.25


class StopOnSignals:
    """Takes SIGTERM and SIGINT from now on; `requested` says whether one came.

    The handler sets one attribute and nothing else. It runs in the middle of whatever the main thread does: an event's
    lock may be held right there, and setting the event would then wait for ever.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        """
        Args:
            seconds: after so long `requested` holds by itself; 0 for never.
        """
        self._noted = False
        self._until = time.monotonic() + seconds if seconds else None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    @property
    def requested(self) -> bool:
        """Whether the service is to end."""
        return self._noted or (self._until is not None and time.monotonic() >= self._until)

    def rest(self, seconds: float, arrived: threading.Event | None = None) -> None:
        """Returns after so long, soon after a signal, or at once when `arrived` is set."""
        event = arrived or threading.Event()
        deadline = time.monotonic() + seconds
        while not self.requested and (left := deadline - time.monotonic()) > 0:
            if event.wait(min(left, _SLICE_SECONDS)):
                return

    def _note(self, *_: object) -> None:
        self._noted = True
