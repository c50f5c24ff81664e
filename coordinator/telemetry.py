# SPDX-License-Identifier: Apache-2.0
"""Step metrics that sites signed, kept beside the ledger in a bounded store: two files a site, the older is dropped.

A stored line is a JSON object: what the site sent, and over it `run` (which the site named) and `at` (unix seconds of
its receipt). Beyond that it is the site's word and unchecked: `step_metrics` reads the figures that it may hold. Lines
of earlier releases have neither `run` nor `at`. One process writes; others may read at any time.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from coordinator import bounded_lines
from coordinator.bounded_lines import MAX_FILE_BYTES, BoundedLines
from federation.durable import FileSystem
from federation.ids import is_slug
from federation.messages import Telemetry

TELEMETRY: Final = "telemetry"
MAX_LINE_CHARS: Final = 2000
"""A longer one is dropped; an agent sends a quarter of it."""

MAX_LINES: Final = 1024
"""Of one message, the newest ones; an agent sends a quarter of them."""

_MAX_COUNT: Final = 2**63
Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """One inner step of a site's job.

    Attributes:
        run: "" in a line of an earlier release.
        at: unix seconds of the line's receipt, by the coordinator's clock; None in a line of an earlier release.
        num_steps: inner steps that the job had taken by then, over all rounds.
        round: whose window the step belongs to.
        step: number of the step in its window, from 1.
        loss: of the step, over the job's ranks.
        tokens: of the step.
        seconds: that the step took.
    """

    run: str
    at: float | None
    num_steps: int
    round: int | None = None
    step: int | None = None
    loss: float | None = None
    tokens: int | None = None
    seconds: float | None = None


def paths(site: str) -> tuple[str, str]:
    """A site's newer file and its older one."""
    return bounded_lines.paths(TELEMETRY, site)


class TelemetryStore:
    """Appends JSON lines per site; losing some is no loss of evidence."""

    def __init__(self, fs: FileSystem, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._lines = BoundedLines(fs, TELEMETRY, max_file_bytes)

    def add(self, site: str, telemetry: Telemetry, now: float) -> None:
        """Keeps the lines of one message, received at `now` (unix seconds). What is no JSON object is dropped."""
        self._lines.add(site, list(_stored(telemetry, now)))


def _stored(telemetry: Telemetry, now: float) -> Iterator[str]:
    if not is_slug(telemetry.run):
        return
    for text in telemetry.lines[-MAX_LINES:]:
        line = parsed_line(text) if len(text) <= MAX_LINE_CHARS else None
        if line:
            yield json.dumps({**line, "run": telemetry.run, "at": now})


def parsed_line(text: str | bytes) -> Line | None:
    """A JSON object without infinities; None for anything else."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def parsed_lines(data: bytes) -> Iterator[Line]:
    """The JSON objects of some stored bytes, one a line."""
    for text in data.splitlines():
        line = parsed_line(text)
        if line is not None:
            yield line


def step_metrics(line: Line) -> StepMetrics | None:
    """The figures of a line; None if it is not about a step. Figures that cannot be are left out."""
    num_steps = _count(line.get("num_steps"))
    if num_steps is None:
        return None
    run, at = line.get("run"), _figure(line.get("at"))
    return StepMetrics(
        run=run if isinstance(run, str) else "",
        at=at,
        num_steps=num_steps,
        round=_count(line.get("round")),
        step=_count(line.get("step")),
        loss=_figure(line.get("loss")),
        tokens=_count(line.get("tokens")),
        seconds=_figure(line.get("seconds")),
    )


def newest_of_each_step(steps: Iterable[StepMetrics]) -> dict[int, StepMetrics]:
    """By number of steps what counts of one run's lines of one site: a resumed job repeats steps, the last line counts.

    Ascending by number.
    """
    newest = {metrics.num_steps: metrics for metrics in steps}
    return dict(sorted(newest.items()))


def _count(value: Any) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
    return value if fits else None


def _figure(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= _MAX_COUNT:
        return None
    return float(value) if isfinite(value) else None
