# SPDX-License-Identifier: Apache-2.0
"""Where the time of a site's training thread went, out of the marks of its job (`site_agent.bench.overlap`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federation.bench.marks import Mark, Marks
from federation.errors import JobFailedError

PHASES: Final = ("encode", "writer", "snapshot", "commit", "merge", "order", "files")
"""What a training thread does between two inner steps, see docs/benchmarks.md; the rest is `other`."""

WRITING: Final = "writing"
"""Beside training: no part of the training thread's time."""


@dataclass(frozen=True, kw_only=True)
class SiteTime:
    """The time of one site's training thread over whole windows.

    Attributes:
        num_windows: of them.
        wall_seconds: from the first inner step of the first to the first inner step after the last.
        step_seconds: inside inner steps.
        phase_seconds: between them, by phase, `other` included; together with `step_seconds` it is `wall_seconds`.
        queued_seconds: of the time between inner steps, ready to run but without a processor; lies in all phases.
        writing_seconds: of each training checkpoint with its payload, written beside that.
    """

    num_windows: int
    wall_seconds: float
    step_seconds: float
    phase_seconds: Mapping[str, float]
    queued_seconds: float
    writing_seconds: tuple[float, ...]

    @property
    def utilisation(self) -> float:
        """Share of the time that went into inner steps."""
        return self.step_seconds / self.wall_seconds

    @property
    def idle_seconds_per_window(self) -> float:
        """What a window takes longer than its inner steps."""
        return (self.wall_seconds - self.step_seconds) / self.num_windows

    @property
    def shares(self) -> dict[str, float]:
        """Of the time, by phase."""
        return {phase: seconds / self.wall_seconds for phase, seconds in self.phase_seconds.items()}


def site_time(marks: Marks, first: int, after: int) -> SiteTime:
    """The time of the windows from `first` on, up to the first inner step of window `after`.

    Raises:
        JobFailedError: the site did not train all of these windows.
    """
    begins, ends = _steps(marks, "step-begin", "at"), _steps(marks, "step-end", "at")
    missing = [number for number in range(first, after + 1) if (number, 0) not in begins]
    if missing:
        raise JobFailedError(f"rounds {first} to {after}: expected windows of all of them, found none of {missing}")
    start, stop = begins[first, 0], begins[after, 0]
    steps = sum(ends[step] - begun for step, begun in begins.items() if start <= begun < stop)
    spans = [mark for mark in marks.of("span") if start <= mark["at"] - mark["seconds"] and mark["at"] <= stop]
    phases = {phase: _total(spans, phase) for phase in PHASES}
    return SiteTime(
        num_windows=after - first,
        wall_seconds=stop - start,
        step_seconds=steps,
        queued_seconds=_queued(marks, start, stop),
        phase_seconds={**phases, "other": stop - start - steps - sum(phases.values())},
        writing_seconds=tuple(mark["seconds"] for mark in spans if mark["phase"] == WRITING),
    )


def commit_seconds(job: Marks, agent: Marks, rounds: Sequence[int]) -> list[float]:
    """Of each round, from the end of its window's last inner step to the commit's outcome file.

    Raises:
        JobFailedError: a round has no outcome.
    """
    boundaries: dict[int, float] = {}
    for (number, _), at in _steps(job, "step-end", "at").items():
        boundaries[number] = max(at, boundaries.get(number, 0.0))
    outcomes = agent.by_round("outcome")
    missing = [number for number in rounds if number not in outcomes or outcomes[number]["kind"] != "committed"]
    if missing:
        raise JobFailedError(f"expected rounds {list(rounds)} to be committed, found no commit of {missing}")
    return [outcomes[number]["at"] - boundaries[number] for number in rounds]


def _steps(marks: Marks, name: str, fact: str) -> dict[tuple[int, int], float]:
    """A fact of each inner step's begin or end, by round and step."""
    return {(mark["round"], mark["step"]): mark[fact] for mark in marks.of(name)}


def _queued(marks: Marks, start: float, stop: float) -> float:
    """From the first inner step's begin to the last one's, less what was inside inner steps."""
    begins = [mark for mark in marks.of("step-begin") if start <= mark["at"] <= stop]
    ends = _steps(marks, "step-end", "queued")
    inside = sum(ends[mark["round"], mark["step"]] - mark["queued"] for mark in begins[:-1])
    return float(begins[-1]["queued"] - begins[0]["queued"] - inside)


def _total(spans: Sequence[Mark], phase: str) -> float:
    return float(sum(mark["seconds"] for mark in spans if mark["phase"] == phase))
