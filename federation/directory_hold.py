# SPDX-License-Identifier: Apache-2.0
"""Holds a directory for as long as a service runs: watches one that is taken, and keeps the counter rising."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from federation.directory_lock import (
    DEFAULT_BASE,
    STALE_SECONDS,
    DirectoryLock,
    find_holder,
    this_process,
)
from federation.durable.api import FileSystem
from federation.lock_watch import Standing

LOG: Final = logging.getLogger("federation.lock")

LOOKS: Final = 40
"""At a counter, in the time that it has to stand still."""


def watch(
    fs: FileSystem,
    *,
    base: str = DEFAULT_BASE,
    stale_seconds: float = STALE_SECONDS,
    rest: Callable[[float], None] = time.sleep,
    ended: Callable[[], bool] = lambda: False,
) -> None:
    """Watches a directory that is taken, until it can be taken over.

    Args:
        rest: waits so many seconds, or less.
        ended: whether the caller was told to stop.

    Raises:
        DirectoryBusyError: its owner is at work, or nothing can be told of it from here, or `ended`.
    """
    first = True
    while (holder := find_holder(fs, this_process(), base=base, stale_seconds=stale_seconds)) is not None:
        # What was seen before this call may be long ago: only what rises while this process looks is alive.
        rose_before = first and holder.judged is not None and holder.judged.standing is Standing.RISING
        if ended() or not (holder.may_pass or rose_before):
            raise holder.error()
        if first:
            LOG.warning("%s; watching it for up to %.0f s", holder.error(), holder.stale_seconds)
        first = False
        rest(holder.stale_seconds / LOOKS)


@contextmanager
def held(
    fs: FileSystem,
    *,
    base: str = DEFAULT_BASE,
    stale_seconds: float = STALE_SECONDS,
    force: bool = False,
    patient: bool = False,
    rest: Callable[[float], None] = time.sleep,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[DirectoryLock]:
    """The directory, with a counter that rises by itself. Leaves the lock in place: a clean end calls `release`.

    Args:
        patient: watch an owner of whom nothing is known yet, instead of refusing at once.

    Raises:
        DirectoryBusyError: another process has the directory.
    """
    if patient and not force:
        watch(fs, base=base, stale_seconds=stale_seconds, rest=rest, ended=ended)
    lock = DirectoryLock(fs, this_process(), force=force, base=base, stale_seconds=stale_seconds)
    with pulse(lock):
        lock.check()
        yield lock


@contextmanager
def pulse(lock: DirectoryLock) -> Iterator[None]:
    """Raises a lock's counter from a thread: one pass of a service may take longer than an owner may be silent."""
    stop = threading.Event()
    thread = threading.Thread(target=_beat_on, args=(lock, stop), name="lock-counter", daemon=True)
    lock.beat()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _beat_on(lock: DirectoryLock, stop: threading.Event) -> None:
    while not stop.wait(lock.beat_seconds):
        lock.beat()
