# SPDX-License-Identifier: Apache-2.0
"""One thread for work that nobody waits for, and how such work gives way to what somebody waits for."""

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

LOG: Final = logging.getLogger("federation.state")
Task: TypeAlias = Callable[[threading.Event], None]
"""Work that ends soon after the event is set."""

NICENESS: Final = 5
"""Of the thread: whatever somebody waits for goes first."""

QUIET_SECONDS: Final = 0.5
"""Work goes on when for so long nobody was served: a commit's way to the sites goes first."""

MAX_DELAY_SECONDS: Final = 10.0
"""One task waits no longer than this, all its waits together."""

_LOOK_SECONDS: Final = 0.05


@dataclass(kw_only=True)
class Courtesy:
    """What tasks in the background know of those who are served.

    Attributes:
        idle_seconds: for how long nobody was.
    """

    idle_seconds: Callable[[], float] = lambda: math.inf

    def turn(self, stopping: threading.Event, urgent: threading.Event | None = None) -> "Turn":
        """For one task that begins now; `urgent` is set when somebody waits for it."""
        return Turn(self, stopping, urgent or threading.Event())


class Turn:
    """One task's waits."""

    def __init__(self, courtesy: Courtesy, stopping: threading.Event, urgent: threading.Event) -> None:
        self._courtesy, self._stopping, self._urgent = courtesy, stopping, urgent
        self._begun = time.monotonic()
        self._waited = 0.0

    def wait(self) -> None:
        """Returns when it is quiet, when the task is urgent or is to end, or when it has waited for long enough.

        It is never quiet before the task is `QUIET_SECONDS` old: those whom it follows may just be about to be served.
        """
        start = now = time.monotonic()
        while not self._stopping.is_set() and self._waited + now - start < MAX_DELAY_SECONDS:
            quiet = min(now - self._begun, self._courtesy.idle_seconds())
            if quiet >= QUIET_SECONDS or self._urgent.wait(_LOOK_SECONDS):
                break
            now = time.monotonic()
        self._waited += now - start


class Background:
    """Does tasks one after the other on a thread of its own, which exists while there are any."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stopping = threading.Event()
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._running = False

    def submit(self, task: Task) -> None:
        """Puts a task behind the others; nothing happens after `close`. What a task raises is logged."""
        with self._changed:
            if self._stopping.is_set():
                return
            self._tasks.append(task)
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Waits until no task is left; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout_seconds)

    def close(self) -> None:
        """Drops what has not begun, tells what runs to end, and waits for it."""
        self._stopping.set()
        with self._changed:
            self._tasks.clear()
        self.drain()

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (task := self._take()) is not None:
            try:
                task(self._stopping)
            except Exception:
                LOG.exception("%s: a task failed", self._name)

    def _take(self) -> Task | None:
        with self._changed:
            if self._tasks:
                return self._tasks.popleft()
            self._running = False
            self._changed.notify_all()
            return None
