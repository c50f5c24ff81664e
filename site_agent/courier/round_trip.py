# SPDX-License-Identifier: Apache-2.0
"""How long a message and its acknowledgement take, measured on this machine alone.

From the pass that posted a message to the pass that saw the coordinator acknowledge it: two readings of one clock, so
that nothing rests on what another machine takes for the time. It contains what the coordinator needs to act upon the
message, and its blobs' way; that is what the bounds have to allow for too. What a restart interrupts is not measured.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from federation.durable.api import FileSystem
from federation.durations import count, in_words
from federation.errors import ProtocolError
from site_agent import layout
from site_agent.json_records import read_record, write_record
from site_agent.site_config import load_courier_section

MAX_SAMPLES: Final = 64
_MAX_WAITING: Final = 4096
_WRITE_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """What was measured.

    Attributes:
        num_samples: messages that the figures are of, the newest ones.
        median_seconds, max_seconds: over these.
        newest_at_us: when the newest was acknowledged; microseconds since 1970.
    """

    num_samples: int = 0
    median_seconds: float = 0.0
    max_seconds: float = 0.0
    newest_at_us: int = 0

    @property
    def usual_seconds(self) -> float:
        """What nearly every message takes at most: twice the median, and no more than the longest.

        A carrier that comes at intervals takes between one and two of them. One stall says nothing of the way.
        """
        return min(self.max_seconds, 2 * self.median_seconds)


class RoundTripMeter:
    """Looks at the mailbox's two counters after every pass, and keeps what it finds where commands look."""

    def __init__(self, fs: FileSystem, last_sequence: int) -> None:
        """`last_sequence`: the newest message of before; when those were posted nobody knows any more."""
        self._fs = fs
        self._last_sequence = last_sequence
        self._posted: deque[tuple[int, float]] = deque(maxlen=_MAX_WAITING)
        self._samples: deque[float] = deque(maxlen=MAX_SAMPLES)
        self._written_at = 0.0
        self._before = read_round_trip(fs)

    @property
    def usual_seconds(self) -> float:
        """Of the newest messages; until this process has timed one, of those of the process before it."""
        return (self.measured(0.0) if self._samples else self._before).usual_seconds

    def note(self, last_sequence: int, peer_received_through: int, now: float) -> None:
        """Takes the counters as they are after a pass at `now` (seconds, of this machine's clock)."""
        if last_sequence > self._last_sequence:
            self._posted.append((last_sequence, now))
            self._last_sequence = last_sequence
        found = False
        while self._posted and self._posted[0][0] <= peer_received_through:
            taken = now - self._posted.popleft()[1]
            if taken >= 0:  # else somebody has set the clock back
                self._samples.append(taken)
                found = True
        if found and not 0 <= now - self._written_at < _WRITE_SECONDS:
            self._written_at = now
            write_record(self._fs, layout.ROUND_TRIP, self.measured(now))

    def measured(self, now: float) -> RoundTrip:
        """What was measured until `now`."""
        if not self._samples:
            return RoundTrip()
        return RoundTrip(
            num_samples=len(self._samples),
            median_seconds=median(self._samples),
            max_seconds=max(self._samples),
            newest_at_us=int(now * 1e6),
        )


def read_round_trip(fs: FileSystem) -> RoundTrip:
    """What a serving agent measured last; of no samples if none did."""
    try:
        return read_record(fs, layout.ROUND_TRIP, RoundTrip) or RoundTrip()
    except ProtocolError:  # another release's: it is written anew
        return RoundTrip()


def declared_seconds(site_dir: Path) -> float:
    """What site.toml says, 0 if it says nothing. Raises ConfigError."""
    return float(getattr(load_courier_section(site_dir), "round_trip_seconds", 0))


def sentence(measured: RoundTrip, declared: float) -> str:
    """Declared and measured, for a person; and what to do where they do not fit."""
    words = f"declared {in_words(declared)}" if declared else "not declared"
    if not measured.num_samples:
        return f"round trip: {words}; not measured yet"
    found = (
        f"round trip: {words}; measured {_seconds(measured.median_seconds)} (median), "
        f"{_seconds(measured.max_seconds)} (longest) over {count(measured.num_samples, 'message')}"
    )
    if declared and measured.max_seconds > declared:
        return f"{found}. LONGER THAN DECLARED: tell the run's operator, whose bounds rest on it"
    return found


def _seconds(seconds: float) -> str:
    return in_words(seconds) if seconds >= 10 else f"{seconds:.1f} s"
