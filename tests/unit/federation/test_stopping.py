# SPDX-License-Identifier: Apache-2.0
"""Services end when they are told to, whatever they are doing at that moment."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from federation.stopping import StopOnSignals

LONG = 600.0


@pytest.fixture
def stop() -> Iterator[StopOnSignals]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield StopOnSignals()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_rest(stop: StopOnSignals, number: int) -> None:
    threading.Timer(0.02, os.kill, (os.getpid(), number)).start()
    start = time.monotonic()
    stop.rest(LONG)
    assert stop.requested
    assert time.monotonic() - start < LONG / 10


def test_what_arrives_ends_a_rest(stop: StopOnSignals) -> None:
    arrived = threading.Event()
    threading.Timer(0.02, arrived.set).start()
    stop.rest(LONG, arrived)
    assert arrived.is_set()
    assert not stop.requested


def test_a_rest_ends_by_itself(stop: StopOnSignals) -> None:
    stop.rest(0.01)
    assert not stop.requested


def test_a_signal_may_come_while_any_lock_of_a_rest_is_held(stop: StopOnSignals) -> None:
    """As between the lines of `Event.wait`, and as a second signal in the middle of the first one's handler."""
    arrived: Any = threading.Event()
    handler: Any = signal.getsignal(signal.SIGTERM)

    def interrupted() -> None:
        with arrived._cond:
            handler(signal.SIGTERM, None)
            handler(signal.SIGTERM, None)

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(30.0)
    assert not thread.is_alive()
    stop.rest(LONG, arrived)
