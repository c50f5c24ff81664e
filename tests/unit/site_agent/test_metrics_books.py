# SPDX-License-Identifier: Apache-2.0
"""Metrics are read on where the last look ended: whole lines, bounded pieces, and the same sums as all at once."""

import json

import pytest

from federation.durable.simulated import SimulatedFileSystem
from site_agent import layout, metrics_books
from site_agent.budget import JobSize
from site_agent.budget_training import NUM_IN_DETAIL, RoundTraining, TrainingMeter
from site_agent.metrics_books import MetricsBooks

SIZE = JobSize(num_gpus=2)
PATH = layout.run_paths("r").metrics


def line(number: int, step: int, seconds: float = 1.0) -> bytes:
    return json.dumps({"round": number, "step": step, "seconds": seconds, "fencing": 1}).encode() + b"\n"


class Metrics:
    """A run's metrics, written as jobs do."""

    def __init__(self) -> None:
        self.fs = SimulatedFileSystem()
        self.books = MetricsBooks(self.fs)
        self.data = b""

    def write(self, *parts: bytes) -> None:
        self.data += b"".join(parts)
        self.fs.write(PATH, self.data)

    def found(self) -> dict[int, RoundTraining] | None:
        training = self.books.training("r", (), SIZE)
        return None if training is None else dict(training)


def test_a_run_without_metrics_has_trained_nothing() -> None:
    assert Metrics().found() == {}


def test_lines_are_taken_once_and_whole() -> None:
    metrics = Metrics()
    metrics.write(line(0, 1), line(0, 2)[:10])
    assert metrics.found() == {0: RoundTraining(kept=2.0)}
    assert metrics.found() == {0: RoundTraining(kept=2.0)}
    metrics.write(line(0, 2)[10:], b"no json\n", line(0, 2, 5.0))
    assert metrics.found() == {0: RoundTraining(kept=12.0, repeated=2.0)}


def test_a_line_that_a_resumed_job_cut_off_is_no_loss() -> None:
    metrics = Metrics()
    metrics.write(line(0, 1), line(0, 2)[:10])
    metrics.found()
    metrics.data = line(0, 1)
    metrics.write(line(0, 2, 3.0))
    assert metrics.found() == {0: RoundTraining(kept=8.0)}


def test_another_file_is_read_from_its_begin() -> None:
    metrics = Metrics()
    metrics.write(line(0, 1), line(0, 2))
    metrics.found()
    metrics.data = b""
    metrics.write(line(4, 1))
    assert metrics.found() == {4: RoundTraining(kept=2.0)}


def test_a_long_file_comes_in_pieces_and_says_nothing_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    monkeypatch.setattr(metrics_books, "PIECE_BYTES", 200)
    metrics.write(*(line(n, 1) for n in range(20)))
    looks = 0
    while (found := metrics.found()) is None:
        looks += 1
        assert looks < 20
    assert looks > 3
    assert found == {n: RoundTraining(kept=2.0) for n in range(20)}


def test_a_piece_without_a_line_s_end_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    monkeypatch.setattr(metrics_books, "PIECE_BYTES", 200)
    metrics.write(b"x" * 1000 + b"\n", line(0, 1))
    for _ in range(10):
        found = metrics.found()
    assert found == {0: RoundTraining(kept=2.0)}


def test_old_rounds_keep_their_sums_only() -> None:
    meter = TrainingMeter()
    for number in range(NUM_IN_DETAIL + 10):
        for step, seconds in ((1, 1.0), (1, 3.0), (2, 1.0)):
            meter.add({"round": number, "step": step, "seconds": seconds, "fencing": 1}, (), SIZE)
    assert set(meter.rounds().values()) == {RoundTraining(kept=8.0, repeated=2.0)}
    assert len(meter.rounds()) == NUM_IN_DETAIL + 10
    assert sum(len(window.steps) for window in meter._windows.values()) == 2 * NUM_IN_DETAIL
