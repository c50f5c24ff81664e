# SPDX-License-Identifier: Apache-2.0
"""One thread for work that nobody waits for."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

LOG: Final = logging.getLogger("federation.state")
Task: TypeAlias = Callable[[threading.Event], None]
"""Work that ends soon after the event is set."""

NICENESS: Final = 5
"""Of the thread: whatever somebody waits for goes first."""


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
