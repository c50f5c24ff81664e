# SPDX-License-Identifier: Apache-2.0
"""Everything inside a job that looks at a clock: when it rests or ends. None of it decides a bit of training."""

import time
from collections.abc import Callable
from typing import Protocol

from site_agent.jobs import WorkOrder

MARGIN_SECONDS = 60.0
"""Before the wall time, for the training checkpoint; a tenth of the limit if that is less."""

PAUSE_GROWTH = 1.06
"""From 5 to 100 ms in 52 looks, which take 1.7 seconds: what comes is seen within a sixteenth of the time waited."""

LOOK_SHARE = 0.01
"""Of the time waited, between two looks at whether one file is there: that costs next to nothing."""


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> float:
        """Unix seconds."""

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        time.sleep(seconds)


class Pauses:
    """Seconds between two looks: short at first, since what is awaited often comes at once, then longer and longer."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = min(first, longest), longest
        self.reset()

    def reset(self) -> None:
        """Something has come: the next wait begins."""
        self._next = self._first

    def take(self) -> float:
        """How long to pause now."""
        pause, self._next = self._next, min(self._next * PAUSE_GROWTH, self._longest)
        return pause


class Patience:
    """How long a job has waited, how fast it steps, how long it may go on.

    Attributes:
        idle_since: unix time since which nothing could be trained, 0.0 while training.
        seconds_per_step: running mean of inner steps, 0.0 before the first.
    """

    def __init__(self, order: WorkOrder, clock: Clock, ends_at: float = 0.0) -> None:
        """`ends_at`: unix time at which the allocation is over, 0 if nobody said: then its time runs from now."""
        self._order, self._clock = order, clock
        self._began = clock.now()
        self._ends_at = ends_at or self._began + order.seconds_limit
        self._pauses = Pauses(order.first_poll_seconds, order.poll_seconds)
        self._step_began = 0.0
        self._saved = self._began
        self._reported = 0.0
        self.idle_since = 0.0
        self.seconds_per_step = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return self._clock.now()

    def rest(self) -> None:
        """Waits a moment, in a long wait a longer one."""
        self._clock.sleep(self._pauses.take())

    def rest_until(self, has_come: Callable[[], bool]) -> None:
        """Waits as long as two looks are apart at most; less if that has come which is awaited and cheap to ask for."""
        left = self._order.poll_seconds
        while left > 0:
            pause = min(left, max(self._order.first_poll_seconds, LOOK_SHARE * self.idle()))
            self._clock.sleep(pause)
            left -= pause
            if has_come():
                return

    def moved(self) -> None:
        """What was awaited has come; something else may be awaited now."""
        self._pauses.reset()

    def idle(self) -> float:
        """Begins or goes on being idle; seconds of it so far."""
        self.idle_since = self.idle_since or self._clock.now()
        return self._clock.now() - self.idle_since

    def busy(self) -> None:
        """An inner step begins now."""
        self.idle_since = 0.0
        self._pauses.reset()
        self._step_began = self._clock.now()

    def stepped(self, num_steps: int = 1) -> float:
        """An inner step is over, or so many that were taken as one piece; the seconds of one."""
        seconds = max(0.0, self._clock.now() - self._step_began) / num_steps
        old = self.seconds_per_step
        self.seconds_per_step = seconds if not old else 0.9 * old + 0.1 * seconds
        return seconds

    def is_exhausted(self) -> bool:
        """Whether the job has been idle for too long."""
        return bool(self.idle_since) and self._clock.now() - self.idle_since > self._order.max_idle_seconds

    def seconds_left(self) -> int:
        """Until the allocation's wall time; -1 if there is none."""
        if not self._order.seconds_limit:
            return -1
        return max(0, int(self._ends_at - self._clock.now()))

    def wall_time_is_near(self) -> bool:
        """Whether only the margin for a training checkpoint is left."""
        limit = self._order.seconds_limit
        margin = min(self._order.drain_seconds, limit / 2) or min(MARGIN_SECONDS, limit / 10)
        return limit > 0 and self._clock.now() >= self._ends_at - margin

    def should_save(self) -> bool:
        """Whether the last training checkpoint is old."""
        return self._clock.now() - self._saved >= self._order.checkpoint_every_seconds

    def saved(self) -> None:
        """A training checkpoint was written."""
        self._saved = self._clock.now()

    def may_report(self, interval: float) -> bool:
        """Whether so many seconds have passed since this last said yes."""
        if abs(self._clock.now() - self._reported) < interval:
            return False
        self._reported = self._clock.now()
        return True
