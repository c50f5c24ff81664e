# SPDX-License-Identifier: Apache-2.0
"""What sites say about their steps: stored with run and time, bounded, and read by others while it grows."""

import json
from typing import Any

import pytest

from coordinator import telemetry
from coordinator.bounded_lines import Tail
from coordinator.telemetry import MAX_LINE_CHARS, MAX_LINES, TelemetryStore, newest_of_each_step, step_metrics
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


def kept(fs: SimulatedFileSystem) -> list[telemetry.Line]:
    """The objects that somebody finds who reads now."""
    found = (telemetry.parsed_line(text) for text in Tail(fs, telemetry.TELEMETRY, "alpha").new())
    return [record for record in found if record is not None]


def numbers(lines: list[telemetry.Line]) -> list[int]:
    return [found["num_steps"] for found in lines]


def test_a_line_gets_run_and_time_over_what_the_site_says(fs: SimulatedFileSystem) -> None:
    add(TelemetryStore(fs), line(3, run="other", at=1.0, extra="word"))
    (found,) = kept(fs)
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
    assert numbers([found for found in kept(fs) if "num_steps" in found]) == [7]
    assert fs.size(NEWER) < 2 * MAX_LINE_CHARS


def test_a_run_whose_name_is_none_is_dropped(fs: SimulatedFileSystem) -> None:
    add(TelemetryStore(fs), line(1), run="<script>")
    assert not fs.exists(NEWER)


def test_of_one_message_the_newest_lines_are_kept(fs: SimulatedFileSystem) -> None:
    add(TelemetryStore(fs), *map(line, range(MAX_LINES + 5)))
    assert numbers(kept(fs)) == list(range(5, MAX_LINES + 5))


def test_the_store_is_bounded(fs: SimulatedFileSystem) -> None:
    store = TelemetryStore(fs, max_file_bytes=1000)
    for number in range(100):
        add(store, line(number))
    assert fs.size(NEWER) <= 1000
    assert 500 < fs.size(OLDER) <= 1000


def test_a_line_that_is_no_json_costs_itself_only(fs: SimulatedFileSystem) -> None:
    fs.write(NEWER, b'{"num_steps": 1, "loss": 1.0}\nno json\n[2]\n\xff\n{"num_steps": 2, "lo')
    add(TelemetryStore(fs), line(3))
    assert numbers(kept(fs)) == [1, 3]


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
