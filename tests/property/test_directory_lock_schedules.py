# SPDX-License-Identifier: Apache-2.0
"""Hostile schedules for the lock of a directory: hosts that stop between any two operations, for any time, and go on.

Each host is a thread that runs only while the schedule lets it, up to its next operation on the shared file system.
Listings may come from a host's cache until it changes the directory itself; content is read anew (close-to-open).
"""

import threading
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.directory_lock import DirectoryLock, Owner
from federation.durable.api import FileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import DirectoryBusyError

STALE: Final = 8.0
NUM_HOSTS: Final = 3
LONG: Final = 30.0
"""A host that needs so long for one operation hangs: a bug of the test."""


class Ended(BaseException):
    """The schedule is over."""


@dataclass
class World:
    """What hosts share: a disk, and the time that passes for all of them."""

    disk: SimulatedFileSystem = field(default_factory=SimulatedFileSystem)
    time: float = 0.0
    step: int = 0
    ended: bool = False
    owners: dict[int, int] = field(default_factory=dict)
    """Number to the step at which its takeover was complete."""
    passed: int = 0
    violations: list[str] = field(default_factory=list)


class Host:
    """One machine with an agent that takes the directory, checks, loses it, and tries again."""

    def __init__(self, world: World, index: int, rate: float) -> None:
        self.world, self.rate, self.offset = world, rate, 1e6 * index
        self.me = Owner(host=f"h{index}", boot=f"b{index}", pid=1, start_ticks=1, clock=f"c{index}")
        self.stale_listing, self.listing = False, None
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def step(self, *, stale_listing: bool) -> None:
        """One operation."""
        self.stale_listing = stale_listing
        self._go.release()
        assert self._done.acquire(timeout=LONG)

    def end(self) -> None:
        """Returns when the thread has ended."""
        self._go.release()
        self._thread.join(LONG)

    def clock(self) -> float:
        return self.offset + self.rate * self.world.time

    def __getattr__(self, name: str) -> Any:
        """An operation of the file system, when the schedule lets it happen."""
        operation = getattr(self.world.disk, name)

        def scheduled(*arguments: Any, **named: Any) -> Any:
            self._pause()
            if name == "list" and self.stale_listing and self.listing is not None:
                return self.listing
            result = operation(*arguments, **named)
            self.listing = result if name == "list" else self.listing if name == "read" else None
            return result

        return scheduled

    def _pause(self) -> None:
        self._done.release()
        self._go.acquire()
        self.world.step += 1
        if self.world.ended:
            raise Ended

    def _run(self) -> None:
        self._go.acquire()
        try:
            while not self.world.ended:
                self._live()
        except Ended:
            pass
        self._done.release()

    def _live(self) -> None:
        try:
            lock = DirectoryLock(
                cast(FileSystem, self), self.me, lambda *_: False, stale_seconds=STALE, clock=self.clock
            )
            number = int(lock._number)
            self.world.owners[number] = self.world.step
            while True:
                self._check(lock, number)
        except DirectoryBusyError:
            return

    def _check(self, lock: DirectoryLock, number: int) -> None:
        began = self.world.step
        lock.check()
        self.world.passed += 1
        later = [n for n, complete in self.world.owners.items() if n > number and complete <= began]
        if later:
            self.world.violations.append(f"owner {number} passed a check that began after {later} had taken over")


schedules = st.lists(
    st.tuples(
        st.integers(0, NUM_HOSTS - 1),  # who
        st.integers(1, 12),  # so many operations
        st.sampled_from([0.0, 0.5, 1.0, 3.0, 8.5, 30.0]),  # then so many seconds pass
        st.booleans(),  # listings from a cache
    ),
    min_size=5,
    max_size=60,
)


def play(schedule: list[tuple[int, int, float, bool]]) -> World:
    world = World()
    hosts = [Host(world, index, rate) for index, rate in enumerate((1.0, 0.99, 1.01))]
    for who, count, seconds, cached in schedule:
        for _ in range(count):
            hosts[who].step(stale_listing=cached)
        world.time += seconds
    world.ended = True
    for host in hosts:
        host.end()
    return world


@settings(max_examples=150, deadline=None)
@given(schedule=schedules)
def test_after_a_takeover_the_older_owner_passes_no_check(schedule: list[tuple[int, int, float, bool]]) -> None:
    assert play(schedule).violations == []


TAKEOVER = [(0, 12, 0.0, False), (1, 12, 8.5, False), (1, 12, 0.0, False)]


def test_the_schedules_reach_takeovers() -> None:
    world = play([*TAKEOVER, (0, 12, 0.0, True)])
    assert sorted(world.owners) == [1, 2]
    assert world.passed >= 2


def test_a_check_that_trusts_a_cached_listing_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(lock: DirectoryLock) -> None:
        if max(lock._numbers(), default=0) != lock._number:
            raise DirectoryBusyError("lost")

    monkeypatch.setattr(DirectoryLock, "check", trusting)
    assert play([*TAKEOVER, (0, 12, 0.0, True)]).violations
