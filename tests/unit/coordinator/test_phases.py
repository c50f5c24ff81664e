# SPDX-License-Identifier: Apache-2.0
"""The log of what sites were first heard to do: each mark of a round once, and no line that breaks who reads it."""

import json

import pytest

from coordinator.bounded_lines import Tail
from coordinator.observations import Observations
from coordinator.phases import PHASES, Mark, PhaseChange, PhaseLog, read_change
from federation.durable.simulated import SimulatedFileSystem
from federation.messages import ParticipationReport, Phase, SiteStatus

LINE = {"run": "demo", "round": 4, "mark": "training", "at": 1000.5, "loss": 2.5}


def without(left_out: str) -> bytes:
    return json.dumps({key: value for key, value in LINE.items() if key != left_out}).encode()


class Coordinator:
    """Receives reports of one site and notes what is new in them."""

    def __init__(self) -> None:
        self.fs = SimulatedFileSystem()
        self.log, self.seen = PhaseLog(self.fs), Observations()
        self.tail = Tail(self.fs, PHASES, "alpha")

    def hears(self, now: float, *reports: tuple[int, Phase], loss: float = 0.0) -> list[tuple[int, Mark, float, float]]:
        """What one report adds to the log: round, mark, time, loss."""
        before = self.seen.sites.get("alpha")
        said = tuple(ParticipationReport(run="demo", round=n, phase=phase, step=1, loss=loss) for n, phase in reports)
        self.seen = self.seen.seen("alpha", SiteStatus(ledger_size=1, participations=said), now)
        self.log.note("alpha", before.progress if before else {}, self.seen.sites["alpha"].progress)
        found = [read_change(line) for line in self.tail.new()]
        assert {change.run for change in found if change} <= {"demo"}
        return [(change.round, change.mark, change.at, change.loss) for change in found if change]


def test_each_mark_of_a_round_is_noted_once_with_the_time_it_was_first_heard() -> None:
    coordinator = Coordinator()
    assert coordinator.hears(10.0, (3, Phase.INVITED)) == [(3, Mark.ANSWERED, 10.0, 0.0)]
    assert coordinator.hears(11.0, (3, Phase.INVITED)) == []
    assert coordinator.hears(12.25, (3, Phase.TRAINING), loss=2.5) == [(3, Mark.TRAINING, 12.25, 2.5)]
    assert coordinator.hears(13.0, (3, Phase.TRAINING), loss=2.0) == []
    assert coordinator.hears(14.0, (3, Phase.UPLOADING), loss=1.5) == [(3, Mark.UPLOADING, 14.0, 1.5)]
    assert coordinator.hears(15.0, (3, Phase.UPLOADING), loss=1.5) == []


def test_what_was_skipped_between_two_reports_is_noted_with_the_second_one() -> None:
    marks = Coordinator().hears(10.0, (3, Phase.UPLOADING))
    assert marks == [(3, mark, 10.0, 0.0) for mark in (Mark.ANSWERED, Mark.TRAINING, Mark.UPLOADING)]


def test_rounds_are_told_apart() -> None:
    coordinator = Coordinator()
    coordinator.hears(10.0, (3, Phase.TRAINING))
    found = coordinator.hears(11.0, (3, Phase.UPLOADING), (4, Phase.INVITED))
    assert sorted(found) == [(3, Mark.UPLOADING, 11.0, 0.0), (4, Mark.ANSWERED, 11.0, 0.0)]


def test_a_report_without_news_writes_nothing() -> None:
    coordinator = Coordinator()
    assert coordinator.hears(10.0) == []
    assert coordinator.fs.list(PHASES) == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -1.0, 1e308])
def test_whatever_a_site_says_of_its_loss_its_marks_are_kept(loss: float) -> None:
    (_, mark, at, said), *_ = Coordinator().hears(10.0, (3, Phase.INVITED), loss=loss)
    assert (mark, at) == (Mark.ANSWERED, 10.0)
    assert said == pytest.approx(loss, nan_ok=True)


def test_a_line_is_read_as_it_was_written() -> None:
    assert read_change(json.dumps(LINE).encode()) == PhaseChange(
        run="demo", round=4, mark=Mark.TRAINING, at=1000.5, loss=2.5
    )
    assert read_change(without("loss")) == PhaseChange(run="demo", round=4, mark=Mark.TRAINING, at=1000.5)


@pytest.mark.parametrize(
    "line",
    [
        *(without(key) for key in LINE if key != "loss"),
        *(json.dumps({**LINE, **wrong}).encode() for wrong in (
            {"mark": "asleep"}, {"mark": []}, {"round": "x"}, {"round": None}, {"at": "soon"}, {"at": []},
            {"at": float("inf")}, {"at": float("nan")}, {"loss": "low"}, {"loss": {}}, {"round": float("inf")},
        )),
        b"", b"{", b"[]", b"3", b"null", b"\xff", b"[" * 100_000, b'"run"', json.dumps(LINE).encode()[:-9],
        b'{"run": "demo", "round": 1, "mark": "training", "at": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_line_that_is_torn_or_of_another_release_says_nothing(line: bytes) -> None:
    assert read_change(line) is None
