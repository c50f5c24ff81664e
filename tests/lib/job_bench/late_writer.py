# SPDX-License-Identifier: Apache-2.0
"""A writer that is late, in one thread: what it has to write is written some calls after the job went on."""

from site_agent.inner_loop.writer import Work


class LateWriter:
    """Stands for the background thread where everything must be repeatable.

    Args:
        delay: calls of `check` that a piece of work waits for; 0 does it in the first.
    """

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._left = 0
        self._pending: Work | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a piece waits."""
        return self._pending is not None

    def submit(self, work: Work) -> None:
        """Keeps it for later."""
        self.flush()
        self._pending, self._left = work, self._delay

    def check(self) -> None:
        """Time passes."""
        if self._left == 0:
            self.flush()
        self._left -= 1

    def flush(self) -> None:
        """Does what waits."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending()

    def close(self) -> None:
        """Does what waits."""
        self.flush()
