# SPDX-License-Identifier: Apache-2.0
"""What sites say about their steps: stored with run and time, bounded, and read by others while it grows."""

import json
from typing import Any

import pytest

from coordinator import telemetry
from coordinator.telemetry import MAX_LINE_CHARS, MAX_LINES, Tail, TelemetryStore, newest_of_each_step, step_metrics
from federation.durable.simulated import SimulatedFileSystem
from federation.messages import Telemetry

NEWER, OLDER = telemetry.paths("alpha")


@pytest.fixture
def fs() -> SimulatedFileSystem:
    return SimulatedFileSystem()


def line(num_steps: int, **more: Any) -> str:
    return json.dumps({"num_steps": num_steps, "loss": 2.5, **more})


def add(store: TelemetryStore, *lines: str, run: str = "demo", now: float = 1000.25) -> None:
    store.add("alpha", Telemetry(run=run, allocation="a1", lines=lines), now)


def numbers(lines: list[telemetry.Line]) -> list[int]:
    return [found["num_steps"] for found in lines]


def test_a_line_gets_run_and_time_over_what_the_site_says(fs: SimulatedFileSystem) -> None:
    add(TelemetryStore(fs), line(3, run="other", at=1.0, extra="word"))
    (found,) = telemetry.read(fs, "alpha")
    assert found == {"num_steps": 3, "loss": 2.5, "extra": "word", "run": "demo", "at": 1000.25}


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[1]", '{"loss": NaN}', '{"loss": -Infinity}', "3", "null", "x\n" * 3000),
        *("[" * 1999, '{"a": ' + "9" * 1990 + "}", '{"x": "' + "y" * MAX_LINE_CHARS + '"}'),
    ],
)
def test_what_is_no_object_or_too_long_is_dropped(fs: SimulatedFileSystem, text: str) -> None:
    add(TelemetryStore(fs), text, line(7))
    kept = numbers([found for found in telemetry.read(fs, "alpha") if "num_steps" in found])
    assert kept == [7]
    assert fs.size(NEWER) < 2 * MAX_LINE_CHARS


def test_a_run_whose_name_is_none_is_dropped(fs: SimulatedFileSystem) -> None:
    add(TelemetryStore(fs), line(1), run="<script>")
    assert not fs.exists(NEWER)


def test_of_one_message_the_newest_lines_are_kept(fs: SimulatedFileSystem) -> None:
    add(TelemetryStore(fs), *map(line, range(MAX_LINES + 5)))
    assert numbers(list(telemetry.read(fs, "alpha"))) == list(range(5, MAX_LINES + 5))


def test_the_store_is_bounded_and_reads_both_files(fs: SimulatedFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MAX_FILE_BYTES", 1000)
    store = TelemetryStore(fs)
    for number in range(100):
        add(store, line(number))
    assert fs.size(NEWER) <= 1000
    assert fs.size(OLDER) <= 1000
    found = numbers(list(telemetry.read(fs, "alpha")))
    assert found == list(range(found[0], 100))
    assert len(found) > 1000 // len(line(99)) // 2
    assert numbers(list(telemetry.read(fs, "beta"))) == []


def test_a_torn_line_costs_itself_only(fs: SimulatedFileSystem) -> None:
    old = b'{"num_steps": 1, "loss": 1.0}\nno json\n{"num_steps": 2, "lo'
    fs.write(NEWER, old)
    add(TelemetryStore(fs), line(3))
    assert numbers(list(telemetry.read(fs, "alpha"))) == [1, 3]


def test_a_tail_returns_each_line_once_over_changes_of_files(
    fs: SimulatedFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "MAX_FILE_BYTES", 1000)
    store, tail = TelemetryStore(fs), Tail(fs, "alpha")
    assert tail.new() == []
    seen: list[int] = []
    for number in range(200):
        add(store, line(number), now=float(number))
        if number % 7 == 0:
            seen += numbers(tail.new())
    seen += numbers(tail.new())
    assert seen == list(range(200))
    assert tail.new() == []


def test_a_tail_waits_for_the_end_of_a_line(fs: SimulatedFileSystem) -> None:
    tail = Tail(fs, "alpha")
    fs.write(NEWER, line(1).encode() + b"\n" + line(2).encode()[:9])
    assert numbers(tail.new()) == [1]
    fs.write(NEWER, line(1).encode() + b"\n" + line(2).encode() + b"\n")
    assert numbers(tail.new()) == [2]


def test_a_tail_between_the_change_of_files_and_the_next_line(fs: SimulatedFileSystem) -> None:
    store, tail = TelemetryStore(fs), Tail(fs, "alpha")
    add(store, line(1))
    assert numbers(tail.new()) == [1]
    add(store, line(2))
    fs.rename(NEWER, OLDER)
    assert numbers(tail.new()) == [2]
    assert tail.new() == []
    add(TelemetryStore(fs), line(3))
    assert numbers(tail.new()) == [3]


def test_a_tail_that_missed_two_changes_goes_on_with_what_is_there(fs: SimulatedFileSystem) -> None:
    tail = Tail(fs, "alpha")
    for number in (1, 2, 3):
        add(TelemetryStore(fs), line(number))
        if number == 1:
            assert numbers(tail.new()) == [1]
        if number < 3:
            fs.rename(NEWER, OLDER)
    assert numbers(tail.new()) == [2, 3]


@pytest.mark.parametrize("followed", [False, True])
def test_files_that_change_while_they_are_read(
    fs: SimulatedFileSystem, monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    add(TelemetryStore(fs), line(1))
    tail = Tail(fs, "alpha")
    if followed:
        assert numbers(tail.new()) == [1]
    fs.rename(NEWER, OLDER)
    add(TelemetryStore(fs), line(2))
    read_range = fs.read_range

    def changing(path: str, offset: int, length: int) -> bytes:
        found = read_range(path, offset, length)
        if path == NEWER and length > telemetry.MAX_FILE_BYTES:
            monkeypatch.setattr(fs, "read_range", read_range)
            fs.rename(NEWER, OLDER)
            add(TelemetryStore(fs), line(3))
        return found

    monkeypatch.setattr(fs, "read_range", changing)
    assert numbers(tail.new()) == [2]
    assert numbers(tail.new()) == [3]


def test_figures_that_cannot_be_are_left_out() -> None:
    found = step_metrics({"num_steps": 4, "round": -1, "step": 2.5, "loss": "<b>", "tokens": True, "seconds": 0.5})
    assert found is not None
    assert (found.run, found.at, found.round, found.step, found.loss, found.tokens) == (
        "",
        None,
        None,
        None,
        None,
        None,
    )
    assert (found.num_steps, found.seconds) == (4, 0.5)
    assert step_metrics({"num_steps": 2**63}) is None
    assert step_metrics({"loss": 1.0}) is None
    huge = step_metrics({"num_steps": 1, "loss": 10**400, "at": 10**20})
    assert huge is not None
    assert (huge.loss, huge.at) == (None, None)


def test_a_resumed_job_repeats_steps_and_the_last_line_counts() -> None:
    lines = [{"num_steps": n, "loss": loss} for n, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (2, 2.5))]
    steps = [metrics for found in lines if (metrics := step_metrics(found)) is not None]
    assert [(n, m.loss) for n, m in newest_of_each_step(steps).items()] == [(1, 3.0), (2, 2.5), (3, 1.0)]
