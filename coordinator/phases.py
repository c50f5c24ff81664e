# SPDX-License-Identifier: Apache-2.0
"""When each site was first heard to train and to upload in each round: the timeline that the ledger does not hold.

One short line per change, beside the ledger in a bounded store (`coordinator.bounded_lines`): nobody decides on it, and
losing it costs a picture, never evidence.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Final

from coordinator.bounded_lines import BoundedLines
from coordinator.observations import Progress
from federation.durable import FileSystem

PHASES: Final = "phases"


class Mark(StrEnum):
    """What a site was heard to do for the first time in a round."""

    ANSWERED = "answered"
    TRAINING = "training"
    UPLOADING = "uploading"


@dataclass(frozen=True, kw_only=True)
class PhaseChange:
    """One line. `at`: unix seconds by the coordinator; `loss`: the newest that the site reported, 0 for none."""

    run: str
    round: int
    mark: Mark
    at: float
    loss: float = 0.0


class PhaseLog:
    """Appends what a report says for the first time."""

    def __init__(self, fs: FileSystem) -> None:
        self._lines = BoundedLines(fs, PHASES)

    def note(self, site: str, before: Mapping[str, Progress], after: Mapping[str, Progress]) -> None:
        """Compares two reports of one site, by "run/round"."""
        changes = [c for key, new in after.items() for c in _changes(key, before.get(key, Progress()), new)]
        self._lines.add(site, [_written(change) for change in changes])


def _changes(key: str, old: Progress, new: Progress) -> Iterator[PhaseChange]:
    run, _, number = key.rpartition("/")
    for mark, then, now in (
        (Mark.ANSWERED, old.answered_at, new.answered_at),
        (Mark.TRAINING, old.training_at, new.training_at),
        (Mark.UPLOADING, old.uploading_at, new.uploading_at),
    ):
        if then is None and now is not None:
            yield PhaseChange(run=run, round=int(number), mark=mark, at=now, loss=new.loss)


def _written(change: PhaseChange) -> str:
    record = {"run": change.run, "round": change.round, "mark": change.mark.value, "at": round(change.at, 3)}
    return json.dumps(record | ({"loss": change.loss} if change.loss else {}), allow_nan=True)


def read_change(line: bytes) -> PhaseChange | None:
    """A line of the log, None where it is torn or of another release."""
    try:
        record = json.loads(line)
        found = PhaseChange(
            run=str(record["run"]),
            round=int(record["round"]),
            mark=Mark(record["mark"]),
            at=float(record["at"]),
            loss=float(record.get("loss", 0.0)),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return found if isfinite(found.at) else None
