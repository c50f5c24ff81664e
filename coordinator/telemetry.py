# SPDX-License-Identifier: Apache-2.0
"""Step metrics that sites signed, kept beside the ledger in a bounded store: two files a site, the older is dropped.

A stored line is a JSON object: what the site sent, and over it `run` (which the site named) and `at` (unix seconds of
its receipt). Beyond that it is the site's word and unchecked: `step_metrics` reads the figures that it may hold. Lines
of earlier releases have neither `run` nor `at`. One process writes; others may read at any time.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from federation.durable import FileSystem
from federation.errors import ObjectNotFoundError
from federation.ids import is_slug
from federation.messages import Telemetry

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
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
    return f"telemetry/{site}.jsonl", f"telemetry/{site}.1.jsonl"


def telemetry_sites(fs: FileSystem) -> list[str]:
    """Sites with lines, ascending."""
    return sorted({name.partition(".")[0] for name in fs.list("telemetry") if name.endswith(".jsonl")})


@dataclass
class TelemetryStore:
    """Appends JSON lines per site; losing some is no loss of evidence, so nothing is fsynced."""

    fs: FileSystem
    _sizes: dict[str, int] = field(default_factory=dict)

    def add(self, site: str, telemetry: Telemetry, now: float) -> None:
        """Keeps the lines of one message, received at `now` (unix seconds). What is no JSON object is dropped."""
        data = b"".join(_stored(telemetry, now))
        if not data:
            return
        path, older = paths(site)
        if site not in self._sizes:
            data = self._begin(site, path) + data
        if self._sizes[site] + len(data) > MAX_FILE_BYTES and self._sizes[site]:
            self.fs.rename(path, older)
            self._sizes[site] = 0
        appender = self.fs.appender(path)
        try:
            appender.append(data)
        finally:
            appender.close()
        self._sizes[site] += len(data)

    def _begin(self, site: str, path: str) -> bytes:
        """Learns what an earlier process left; what has to follow it if that ends in the middle of a line."""
        size = self._sizes[site] = self.fs.size(path) if self.fs.exists(path) else 0
        return b"\n" if size and self.fs.read_range(path, size - 1, 1) != b"\n" else b""


def _stored(telemetry: Telemetry, now: float) -> Iterator[bytes]:
    if not is_slug(telemetry.run):
        return
    for text in telemetry.lines[-MAX_LINES:]:
        line = _parsed(text) if len(text) <= MAX_LINE_CHARS else None
        if line:
            yield json.dumps({**line, "run": telemetry.run, "at": now}).encode() + b"\n"


def _parsed(text: str | bytes) -> Line | None:
    """A JSON object without infinities; None for anything else."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def read(fs: FileSystem, site: str) -> Iterator[Line]:
    """All lines of a site that are kept, oldest first."""
    return iter(Tail(fs, site).new())


class Tail:
    """Follows one site's lines: each call returns what is new since the last one, also over a change of files.

    Lines are lost only if both files were replaced between two calls.
    """

    def __init__(self, fs: FileSystem, site: str) -> None:
        self._fs = fs
        self._paths = paths(site)
        # The first line of the file that was read last (it tells one file from another), and how much of it was read.
        self._head, self._offset = b"", 0

    def new(self) -> list[Line]:
        """The lines that came since the last call, oldest first; what is no JSON object is passed over."""
        newer, older = self._paths
        if self._is_followed(newer):
            return list(parsed_lines(self._rest(newer)))
        start = self._offset if self._is_followed(older) else 0
        found = self._whole_lines(newer, 0)  # first: if the files change now, `older` is the one that was just read
        before = self._whole_lines(older, start)
        if found and self._range(older, 0, len(_first_line(found))) == _first_line(found):
            before = b""
        if found:
            self._head, self._offset = _first_line(found), len(found)
        elif before:
            self._head, self._offset = self._head if start else _first_line(before), start + len(before)
        return list(parsed_lines(before + found))

    def _is_followed(self, path: str) -> bool:
        return bool(self._head) and self._range(path, 0, len(self._head)) == self._head

    def _rest(self, path: str) -> bytes:
        data = self._whole_lines(path, self._offset)
        self._offset += len(data)
        return data

    def _whole_lines(self, path: str, start: int) -> bytes:
        data = self._range(path, start, 2 * MAX_FILE_BYTES)
        return data[: data.rfind(b"\n") + 1]

    def _range(self, path: str, start: int, length: int) -> bytes:
        try:
            return self._fs.read_range(path, start, length)
        except ObjectNotFoundError:
            return b""


def _first_line(data: bytes) -> bytes:
    return data[: data.find(b"\n") + 1]


def parsed_lines(data: bytes) -> Iterator[Line]:
    """The JSON objects of some stored bytes, one a line."""
    for text in data.splitlines():
        line = _parsed(text)
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
