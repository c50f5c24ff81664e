# SPDX-License-Identifier: Apache-2.0
"""Says things at one place, on a thread of its own: a place that is down holds up nobody.

What waits is bounded. What was not taken is tried again, later and later or as the other end asks, until it is too old
to be news. That it fails is a number and one line in the log, and that it works again another one.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.nap import sleep_using_event
from tenacity.wait import wait_random_exponential

from coordinator.notices.delivery import ANSWER_SECONDS, Delivery, NotTakenError, RefusedError
from coordinator.notices.memory import Saying
from coordinator.notices.targets import Target
from federation.errors import FederationError

LOG: Final = logging.getLogger("coordinator.notices")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a sender waits, in seconds, and how much it keeps.

    Attributes:
        first_wait_seconds, longest_wait_seconds: between two tries of one saying; drawn from a range that doubles.
        longest_asked_seconds: what a `Retry-After` may ask for.
        gap_seconds: between two sayings; platforms take about one a second.
        answer_seconds: for connecting and for each part of an answer.
        max_age_seconds: what is older is not said any more.
        max_waiting: sayings; beyond that the oldest of the least severe goes.
    """

    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 900.0
    longest_asked_seconds: float = 3600.0
    gap_seconds: float = 1.0
    answer_seconds: float = ANSWER_SECONDS
    max_age_seconds: float = 86_400.0
    max_waiting: int = 200


@dataclass(frozen=True, kw_only=True)
class TargetHealth:
    """How one target fares, since the process began.

    Attributes:
        num_sent: taken by the other end.
        num_failed: tries that failed.
        num_dropped: never to be said: refused, too old, or too many waited.
        num_waiting: of now.
        failing_since: unix seconds, None while it works.
        fault: why the newest try failed, "" if it did not.
    """

    name: str
    kind: str
    num_sent: int = 0
    num_failed: int = 0
    num_dropped: int = 0
    num_waiting: int = 0
    failing_since: float | None = None
    fault: str = ""


class _ClosingError(FederationError):
    """The sender ends; what it was about to say stays unsent."""


class Sender:
    """Says things at one target, in their order."""

    def __init__(
        self,
        target: Target,
        unsent: Iterable[Saying] = (),
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            unsent: what an earlier process left to say, oldest first.
            clock: unix seconds.
            on_change: called on the sender's thread when there is less to say.

        Raises:
            ConfigError: the target's `ca_file` holds no certificates.
        """
        self.target = target
        self._pace, self._clock, self._on_change = pace or Pace(), clock, on_change
        self._delivery = Delivery(target, answer_seconds=self._pace.answer_seconds)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._queue = list(unsent)
        self._busy = False
        self._sent = self._failed = self._dropped = 0
        self._failing_since: float | None = None
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name=f"notices-{target.name}", daemon=True)

    def start(self) -> None:
        """Begins to say what is unsent."""
        self._thread.start()

    def offer(self, saying: Saying) -> None:
        """Takes something to say after `wake`. A full queue loses the oldest of its least severe ones."""
        with self._changed:
            self._queue.append(saying)
            while len(self._queue) > self._pace.max_waiting:
                first = 1 if self._busy else 0  # what is being said now may have been heard
                victim = min(self._queue[first:], key=lambda s: s.severity.rank)
                self._queue.remove(victim)
                self._dropped += 1

    def wake(self) -> None:
        """What was offered is kept where a restart finds it: it may be said."""
        with self._changed:
            self._changed.notify_all()

    @property
    def unsent(self) -> tuple[Saying, ...]:
        """What is still to be said, oldest first; what is being said now too."""
        with self._changed:
            return tuple(self._queue)

    @property
    def health(self) -> TargetHealth:
        """How it fares."""
        with self._changed:
            return TargetHealth(
                name=self.target.name,
                kind=self.target.kind.value,
                num_sent=self._sent,
                num_failed=self._failed,
                num_dropped=self._dropped,
                num_waiting=len(self._queue),
                failing_since=self._failing_since,
                fault=self._fault,
            )

    def close(self, seconds: float = 2.0) -> None:
        """Ends the thread, and waits so long for what it is about; what is unsent stays so."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(seconds)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (saying := self._next()) is not None:
            if self._say(saying):
                self._on_change()
                self._closing.wait(self._pace.gap_seconds)

    def _next(self) -> Saying | None:
        with self._changed:
            while not self._queue and not self._closing.is_set():
                self._changed.wait()
            self._busy = not self._closing.is_set()
            return self._queue[0] if self._busy else None

    def _say(self, saying: Saying) -> bool:
        """Says it or gives it up; False if the sender is to end before that is known."""
        try:
            self._retrying(saying)(self._attempt, saying)
        except _ClosingError:
            return False
        except NotTakenError:
            if self._closing.is_set():
                return False
            self._done(dropped=True)
        except RefusedError as error:
            self._troubled(error)
            self._done(dropped=True)
        else:
            self._works()
            self._done(dropped=False)
        return True

    def _retrying(self, saying: Saying) -> Retrying:
        backoff = wait_random_exponential(
            multiplier=self._pace.first_wait_seconds,
            min=self._pace.first_wait_seconds / 2,
            max=self._pace.longest_wait_seconds,
        )

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            asked = error.retry_after_seconds if isinstance(error, NotTakenError) else None
            if asked is None:
                return backoff(state)
            # One that asks for no patience at all would be asked as fast as it answers.
            return max(min(asked, self._pace.longest_asked_seconds), self._pace.first_wait_seconds)

        return Retrying(
            stop=lambda _: self._closing.is_set() or self._is_old(saying),
            wait=wait,
            sleep=sleep_using_event(self._closing),
            retry=retry_if_exception_type(NotTakenError),
            reraise=True,
        )

    def _is_old(self, saying: Saying) -> bool:
        return self._clock() - saying.at > self._pace.max_age_seconds

    def _attempt(self, saying: Saying) -> None:
        if self._closing.is_set():
            raise _ClosingError("closing")
        try:
            self._delivery.send(saying, self._clock())
        except NotTakenError as error:
            self._troubled(error)
            raise

    def _done(self, *, dropped: bool) -> None:
        with self._changed:
            del self._queue[0]
            self._busy = False
            self._dropped += dropped
            self._sent += not dropped

    def _troubled(self, error: FederationError) -> None:
        with self._changed:
            began = self._failing_since is None
            self._failing_since = self._clock() if began else self._failing_since
            self._failed += 1
            self._fault = str(error)
        if began:
            LOG.warning("notices do not reach %s: %s", self.target.label, error)

    def _works(self) -> None:
        with self._changed:
            was_failing, self._failing_since, self._fault = self._failing_since is not None, None, ""
        if was_failing:
            LOG.info("notices reach %s again; %d were lost in all", self.target.label, self._dropped)
