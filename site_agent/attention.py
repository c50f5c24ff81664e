# SPDX-License-Identifier: Apache-2.0
"""How an agent rests between two passes: it sees at once what the courier brings, and soon what a job leaves.

A whole pass reads many files; between passes only the names of awaited ones are looked for. How often follows from how
long they have been awaited: each look comes later by one hundredth of that, so that a short window is not lengthened
by the agent, and a long one costs next to nothing, whatever file system the spool is on.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

SHARE: Final = 0.01
"""Of the time for which a file has been awaited, the longest that its appearance goes unnoticed."""

MIN_SECONDS: Final = 0.02
"""Between two looks."""

MAX_SECONDS: Final = 0.25
"""Between two looks at whether the agent is to end."""


class Attention:
    """Rests of one agent."""

    def __init__(
        self,
        exists: Callable[[str], bool],
        arrived: threading.Event,
        *,
        ended: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            exists: whether a file is there.
            arrived: set when the courier has brought something.
            ended: whether the agent is to end.
            clock: seconds; `arrived.wait` must fit it.
        """
        self._exists, self._arrived, self._ended, self._clock = exists, arrived, ended, clock
        self._since: dict[str, float] = {}
        self._noticed: set[str] = set()

    def rest(self, seconds: float, awaited: Iterable[str]) -> None:
        """Returns after so long, or earlier: something arrived, an awaited file appeared, or the agent is to end.

        A file counts once: one that the passes make nothing of must not keep the agent awake.
        """
        start = self._clock()
        self._since = {path: self._since.get(path, start) for path in awaited}
        self._noticed &= self._since.keys()
        while not self._ended() and not self._has_appeared() and (left := start + seconds - self._clock()) > 0:
            if self._arrived.wait(min(left, self._interval())):
                return

    def _interval(self) -> float:
        since = [at for path, at in self._since.items() if path not in self._noticed]
        if not since:
            return MAX_SECONDS
        return min(max(SHARE * (self._clock() - max(since)), MIN_SECONDS), MAX_SECONDS)

    def _has_appeared(self) -> bool:
        new = {path for path in self._since.keys() - self._noticed if self._exists(path)}
        self._noticed |= new
        return bool(new)
