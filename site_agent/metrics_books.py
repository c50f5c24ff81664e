# SPDX-License-Identifier: Apache-2.0
"""Follows the step metrics of runs, so that an agent knows at any moment where its GPU-hours went.

The file grows by a line per inner step for months: each look reads on where the last one ended, and a bounded piece.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from federation.durable.api import FileSystem
from site_agent import layout
from site_agent.agent_state import Allocation
from site_agent.books import record_of
from site_agent.budget import JobSize
from site_agent.budget_training import RoundTraining, TrainingMeter

PIECE_BYTES: Final = 4 * 1024 * 1024
"""Read in one look at most, so that the agent does not stand still over the file of a long run."""


@dataclass(kw_only=True)
class _Followed:
    """`offset`: behind the last whole line that was read; what comes after it may be cut off by a job that resumes."""

    offset: int = 0
    meter: TrainingMeter = field(default_factory=TrainingMeter)


class MetricsBooks:
    """What the metrics of each run say, as far as they were read."""

    def __init__(self, fs: FileSystem) -> None:
        """Reads nothing yet."""
        self._fs = fs
        self._followed: dict[str, _Followed] = {}

    def training(
        self, run: str, allocations: Sequence[Allocation], default: JobSize
    ) -> Mapping[int, RoundTraining] | None:
        """GPU-seconds per round; None while an older part of the file is still to be read, which later looks do."""
        path = layout.run_paths(run).metrics
        size = self._fs.size(path) if self._fs.exists(path) else 0
        followed = self._followed.setdefault(run, _Followed())
        if size < followed.offset:  # another file
            followed = self._followed[run] = _Followed()
        data = self._fs.read_range(path, followed.offset, PIECE_BYTES) if size > followed.offset else b""
        whole = data[: data.rfind(b"\n") + 1]
        for record in filter(None, map(record_of, whole.splitlines())):
            followed.meter.add(record, allocations, default)
        is_all = followed.offset + len(data) >= size
        # A piece without a line's end is no metrics.
        followed.offset += len(whole) or (len(data) if len(data) == PIECE_BYTES else 0)
        return followed.meter.rounds() if is_all else None
