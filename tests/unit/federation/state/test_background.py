# SPDX-License-Identifier: Apache-2.0
"""How work in the background gives way to those who are served."""

import threading
import time

import pytest

from federation.state import background
from federation.state.background import Courtesy, Turn


class Served:
    """Says that somebody is served until it has been asked so many times."""

    def __init__(self, until: float) -> None:
        self.num_looks, self._until = 0, until

    def idle_seconds(self) -> float:
        self.num_looks += 1
        return 0.0 if self.num_looks < self._until else 1000.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(background, "_LOOK_SECONDS", 0.001)


def turn(served: Served, stopping: threading.Event | None = None, urgent: threading.Event | None = None) -> Turn:
    return Courtesy(idle_seconds=served.idle_seconds).turn(stopping or threading.Event(), urgent)


def test_it_goes_on_when_nobody_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "QUIET_SECONDS", 0.0005)
    served = Served(until=4)
    turn(served).wait()
    assert served.num_looks == 4


def test_each_wait_looks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "QUIET_SECONDS", 0.0005)
    served = Served(until=4)
    one = turn(served)
    one.wait()
    one.wait()
    assert served.num_looks == 5


@pytest.mark.parametrize("told", ["stopping", "urgent"])
def test_it_goes_on_at_once_when_told_to(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setattr(background, "QUIET_SECONDS", 3600.0)
    monkeypatch.setattr(background, "MAX_DELAY_SECONDS", 3600.0)
    event = threading.Event()
    event.set()
    turn(Served(until=float("inf")), **{told: event}).wait()


def test_all_waits_of_a_task_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "QUIET_SECONDS", 3600.0)
    monkeypatch.setattr(background, "MAX_DELAY_SECONDS", 0.02)
    served = Served(until=float("inf"))
    one = turn(served)
    one.wait()
    looked = served.num_looks
    assert looked > 0
    one.wait()
    assert served.num_looks == looked


def test_it_is_never_quiet_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "QUIET_SECONDS", 0.02)
    begun = time.monotonic()
    Courtesy().turn(threading.Event()).wait()
    assert time.monotonic() - begun >= 0.02
