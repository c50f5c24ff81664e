# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told of the process that decides: also of one that has ended, or its alert could never fire."""

import re
from typing import Any

from dashboard_bench import NOW, Bench

from coordinator.dashboard.watchman import Watchman
from federation.directory_lock import DirectoryLock, this_process
from federation.durable.simulated import SimulatedFileSystem


def last_seen(watchman: Watchman) -> float | None:
    text = watchman.metrics("").body.decode()
    found = re.search(r"^federation_coordinator_last_seen_timestamp_seconds (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def test_a_coordinator_that_was_stopped_has_a_last_sign_of_life(bench: Bench) -> None:
    fs, nobody = SimulatedFileSystem(), None
    said: Any = nobody
    watchman = Watchman(fs=fs, follower=bench.follower, notifier=said, clock=lambda: NOW)
    assert last_seen(watchman) is None, "it was never served"
    lock = DirectoryLock(fs, this_process())
    lock.beat()
    serving = last_seen(watchman)
    lock.release()
    stopped = last_seen(watchman)
    assert serving is not None
    assert stopped is not None
    assert NOW - 60 < stopped <= NOW
