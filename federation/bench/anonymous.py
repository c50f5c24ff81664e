# SPDX-License-Identifier: Apache-2.0
"""The anonymous memory of a running process: what it allocated, not the files that it has mapped or read."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

SAMPLE_SECONDS: Final = 0.01
_STATUS_BYTES: Final = 16 * 1024
"""More than the file has."""


def anonymous_bytes(status: bytes) -> int:
    """Resident anonymous memory and what of it is swapped out: RssAnon and VmSwap of /proc/<pid>/status (proc(5)).

    The kernel's own count of what smaps_rollup adds up as Anonymous; reading it does not hold up the process.
    """
    counts = (status.partition(name)[2].partition(b"kB")[0] for name in (b"RssAnon:", b"VmSwap:"))
    return sum(int(count) for count in counts if count) * 1024


def rollup_bytes(pid: int) -> int:
    """Anonymous of /proc/<pid>/smaps_rollup: every page is looked at, while the process's mappings are locked."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


class PeakAnonymous:
    """Samples a process's anonymous memory on a thread, a hundred times a second, for as long as the block lasts.

    The file is opened once: the sampler shares its cores with what it measures.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._stop = pid, threading.Event()
        self._samples: list[tuple[float, int]] = []
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._sample, name="anonymous", daemon=True)

    @property
    def num_samples(self) -> int:
        """Samples so far."""
        return len(self._samples)

    @property
    def peak(self) -> int:
        """The largest sample since the last `restart`, in bytes."""
        return self.peak_between(self._since, float("inf"))

    def restart(self) -> int:
        """The largest sample since the last call; what follows is counted anew."""
        found, self._since = self.peak, time.monotonic()
        return found

    def peak_between(self, begin: float, end: float) -> int:
        """The largest sample between two instants of `time.monotonic()`, 0 if there was none."""
        return max((size for at, size in self._samples if begin <= at <= end), default=0)

    def _sample(self) -> None:
        try:
            with Path(f"/proc/{self._pid}/status").open("rb", buffering=0) as status:
                while not self._stop.wait(SAMPLE_SECONDS):
                    status.seek(0)
                    self._samples.append((time.monotonic(), anonymous_bytes(status.read(_STATUS_BYTES))))
        except OSError:  # it has ended
            return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
