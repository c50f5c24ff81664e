# SPDX-License-Identifier: Apache-2.0
"""What a benchmark needs to know of a running process."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from federation.errors import DeadlineExceededError

_LOOK_SECONDS: Final = 0.002


def peak_bytes(pid: int) -> int:
    """The largest resident memory that a living process ever had (VmHWM of proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def wait_until(
    condition: Callable[[], bool], seconds: float, what: str, check: Callable[[], None] = lambda: None
) -> None:
    """Looks again and again, 500 times a second.

    Raises:
        DeadlineExceededError: the condition did not come true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        check()
        if time.monotonic() > deadline:
            raise DeadlineExceededError(f"{what}: not within {seconds:g} s")
        time.sleep(_LOOK_SECONDS)
